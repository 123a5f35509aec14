"""The API while its broker or itself is stopped, paused, killed and started again under load: an answer of 201 is kept, any other named."""

from __future__ import annotations

import json
import signal
import threading
import time

import httpx
import pytest
from support.apis import api
from support.broker import wait_for
from support.places import Place
from support.posts import BATCH, SINGLE, Post, broken_promises, load, send
from support.servers import Server, Servers
from support.wording import Wording

from tidemark.ingest.api.document import PRODUCT

pytestmark = pytest.mark.servers

SECONDS = 1  # that a post waits for Kafka


@pytest.fixture
def kafka(fallible: Servers) -> Server:
    return fallible.kafka


@pytest.fixture
def place(fallible_place: Place) -> Place:
    return fallible_place


def of(posts: list[Post], place: Place) -> list[str]:
    """Promises broken to these posts, in a log that holds others too."""
    mine = {record for post in posts for record in post.records}
    return broken_promises(posts, [event for event in place.log() if event.value in mine])


def record(asin: str, title: str) -> bytes:
    return json.dumps({**PRODUCT, "asin": asin, "title": title}).encode()


def until_accepted(http: httpx.Client, path: str, asin: str, title: str) -> list[Post]:
    """Posts numbered records until one is accepted, which on a busy machine need not be the first."""
    posts = [send(http, path, [record(asin, f"{title} 0")])]
    while posts[-1].status != 201:
        assert len(posts) < 60, posts[-1]
        posts.append(send(http, path, [record(asin, f"{title} {len(posts)}")]))
    return posts


def test_a_broker_restart(fallible: Servers, kafka: Server, place: Place, wording: Wording) -> None:
    before = len(place.log())
    with api(api_acknowledge_seconds=str(SECONDS)) as running, load(running.url) as posting:
        posting.wait_for(201, 10)
        kafka.stop()
        with api(api_acknowledge_seconds=str(SECONDS), wait=False) as later:
            health = later.http.get("/health")
            assert (health.status_code, health.json()["healthy"]) == (503, False)
            message, _, why = health.json()["detail"].partition(": ")
            assert why
            wording.check(message)
            early = send(later.http, SINGLE, [record("B0EARLY001", "while Kafka is down")])
            assert early.status == 503
            posting.wait_for(503, 1)
            kafka.start()
            posting.wait_for(201, 10)
            fallible.wait()
            then = until_accepted(later.http, SINGLE, "B0EARLY001", "when it is up")
            wait_for(lambda: later.http.get("/health").status_code == 200)
    assert posting.count(503, SINGLE) > 0
    assert posting.count(503, BATCH) > 0
    assert len(place.log()) > before
    assert of([*posting.posts, early, *then], place) == []


def test_a_paused_broker(kafka: Server, place: Place) -> None:
    """Answers come in time; what was not acknowledged comes before what is posted after it; nothing is held for ever."""
    with api(api_acknowledge_seconds=str(SECONDS)) as running:
        with load(running.url) as posting:
            posting.wait_for(201, 5)
            kafka.signal(signal.SIGSTOP)
            posting.wait_for(503, 1)
            # What was seen of Kafka counts for a moment.
            wait_for(lambda: running.http.get("/health").status_code == 503)
            older = send(running.http, SINGLE, [record("B0PAUSED01", "older")])
            assert older.status == 503
            kafka.signal(signal.SIGCONT)
            posting.wait_for(201, 10)
            newer = until_accepted(running.http, SINGLE, "B0PAUSED01", "newer")
        assert max(post.seconds for post in posting.posts if post.status == 503) < SECONDS + 10
        assert of([*posting.posts, older, *newer], place) == []
        titles = [json.loads(event.value or b"{}")["title"] for event in place.log() if event.key == b"B0PAUSED01"]
        assert "older" not in titles[1:]
        wait_for(lambda: "tidemark_api_unacknowledged_bytes 0.0" in running.http.get("/metrics").text)
        assert 'tidemark_api_records_total{kind="product",outcome="not acknowledged"} 0.0' not in running.http.get("/metrics").text


def test_stopping_the_api_under_load(kafka: Server, place: Place) -> None:
    with api() as running, load(running.url) as posting:
        posting.wait_for(201, 10)
        assert running.stop() == 0
        assert "Traceback" not in running.text()
        until = time.monotonic() + 30
        while posting.count(0, SINGLE) == 0 and time.monotonic() < until:
            time.sleep(0.05)
    assert of(posting.posts, place) == []
    # A stop answers what is under way: no record is in the log of which its client has heard nothing.
    unheard = {record for post in posting.posts if post.status == 0 for record in post.records}
    assert unheard
    assert not unheard & {event.value for event in place.log()}


def test_stopping_the_api_while_kafka_is_paused(fallible: Servers, kafka: Server, place: Place) -> None:
    with (
        api(api_acknowledge_seconds=str(SECONDS)) as running,
        httpx.Client(base_url=running.url, timeout=60) as one,
        httpx.Client(base_url=running.url, timeout=60) as another,
    ):
        posts: list[Post] = []

        def post(http: httpx.Client, path: str) -> None:
            posts.append(send(http, path, [record("B0STOPPED1", f"to {path}")]))

        # Connected before the stop, which ends the listening at once.
        to = ((one, SINGLE), (another, BATCH))
        for http, path in to:
            until_accepted(http, path, "B0STOPPED0", f"before {path}")
        kafka.signal(signal.SIGSTOP)
        try:
            threads = [threading.Thread(target=post, args=arguments) for arguments in to]
            for thread in threads:
                thread.start()
            time.sleep(1)
            assert running.stop() == 0
            for thread in threads:
                thread.join()
        finally:
            kafka.signal(signal.SIGCONT)
        assert [one.status for one in posts] == [503, 503]
        assert "Traceback" not in running.text()
    fallible.wait()
    assert of(posts, place) == []


def test_killing_the_api_under_load(kafka: Server, place: Place) -> None:
    with api() as running, load(running.url) as posting:
        posting.wait_for(201, 10)
        running.signal(signal.SIGKILL)
        running.process.wait()
    assert posting.count(201, SINGLE) >= 10
    assert of(posting.posts, place) == []


@pytest.mark.soak(proof="api")
@pytest.mark.timeout(1800)
def test_repeated_broker_crashes(fallible: Servers, kafka: Server, place: Place) -> None:
    with api(api_acknowledge_seconds=str(SECONDS)) as running, load(running.url) as posting:
        for number in range(12):
            posting.wait_for(201, 10)
            if number % 2:
                kafka.signal(signal.SIGSTOP)
                time.sleep(SECONDS * (0.3 + number % 3))
                if number % 4 == 3:
                    kafka.kill()
                    kafka.start()
                else:
                    kafka.signal(signal.SIGCONT)
            else:
                kafka.kill()
                time.sleep(number)
                kafka.start()
    fallible.wait()
    assert of(posting.posts, place) == []
