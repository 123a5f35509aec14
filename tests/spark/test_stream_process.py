"""The stream as a process: what no product event should be like, how it ends, and what it says last."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import Producer
from support import broker
from support.events import CATEGORIES, PRODUCTS
from support.load import updates
from support.places import Place
from support.streams import Stream, figures, served, stream, wait_until_served
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.rules import RULES
from tidemark.ingest import topics, watch
from tidemark.ingest.produce import RECOMMENDED
from tidemark.serving import control, ledger
from tidemark.spark.log import describe_topics

pytestmark = pytest.mark.servers

COMMITTED = "tidemark_speed_committed_timestamp_seconds"


def last_line(running: Stream) -> str:
    """How grave, and what it says, without when. Spark's own lines, which may follow it, have another form."""
    return re.findall(r"^\d{4}-\d\d-\d\d \S+ (.*)$", running.text(), re.MULTILINE)[-1]


def send_large(place: Place, events: Iterable[Event]) -> None:
    """As Place.send, by a producer that lets everything pass which the broker takes once it is compressed."""
    producer = Producer({"bootstrap.servers": place.settings.kafka, **RECOMMENDED, "message.max.bytes": 100_000_000})
    for event in events:
        topic = place.settings.category_topic if event.topic == CATEGORIES else place.settings.product_topic
        producer.produce(topic, event.value, event.key, headers=list(event.headers))
    assert producer.flush(60) == 0


def unusual_events() -> Iterator[Event]:
    """Events of every size and sort that Kafka takes, each a product of its own where it is one."""
    numbers = iter(range(100))

    def product(*headers: tuple[str, bytes], **more: object) -> Event:
        asin = f"B0T{next(numbers):07d}"
        record = {"asin": asin, "title": "", "stars": 4, "reviews": 1, "price": 5, "listPrice": 9, "category_id": 7, "isBestSeller": False}
        record |= {"boughtInLastMonth": 50, "date": "2023-10-31", **more}
        return Event(PRODUCTS, 0, 0, 0, asin.encode(), json.dumps(record, ensure_ascii=False).encode(), headers)

    def category(number: int, name: str) -> Event:
        value = json.dumps({"id": number, "category_name": name}).encode()
        return Event(CATEGORIES, 0, 0, 0, None, value)

    def rejected(value: bytes | None, *headers: tuple[str, bytes]) -> Event:
        return Event(PRODUCTS, 0, 0, 0, None, value, headers)

    most, position = RULES.max_bytes, ("tide-position", b"5")
    yield product(title="x" * (most - 1_000))
    yield product(title="日" * 1_000_000, imgUrl="y" * 2_000_000, productURL="z" * 3_000_000)
    yield product(title="x" * most)
    yield product(title="\x00", imgUrl="\x00a\x00", productURL="\x00")
    yield product(title="$where", imgUrl="$a.b", productURL="\ufffe\uffff")
    yield product(("tide-ingestion", b"\x00"), position, title="of an ingestion without a name")
    yield product(**{"$set": {"a.b": 1}, "": 1, "\x00": 2, "_id": 3, "k" * 60_000: 4})
    yield product(category_id=2**31 - 1, reviews=2**31 - 1, boughtInLastMonth=2**31 - 1, price=1_000_000, listPrice=1_000_000)
    yield category(7, "n" * RULES.max_name_length)
    yield category(7, "n" * (RULES.max_name_length + 1))
    yield category(8, "N" * (most - 1_000))
    yield category(9, "\x00")
    yield rejected(b"[" * most)
    yield rejected(b"r" * (2 * most + 100))
    yield rejected(b"\xff" * most, ("tide-ingestion", b"i" * (most // 2)), position)
    yield rejected(b"{}", ("tide-ingestion", b"\x00$.i" * 100), position)
    yield rejected(b"{}", ("tide-replay-of", b"r" * (2 * most)))
    yield rejected(None, ("tide-registered-at", b"9" * 15), ("tide-position", b"9" * 15), ("tide-ingestion", b"i"))


def require_right_figures(place: Place) -> None:
    """The stream has served all there is, and says so to Prometheus. How far behind it is stands there once somebody has looked."""
    own, events = ledger.read(place.database), sum(place.ends().values())
    until = time.monotonic() + 60
    # They are counted a moment after they are committed, and what MongoDB does not tell soon enough is left out.
    while (shown := figures(place))["tidemark_speed_events_total",] < events or (COMMITTED,) not in shown:
        assert time.monotonic() < until, shown
        time.sleep(0.1)
    assert shown["tidemark_speed_events_total",] == events
    assert shown["tidemark_speed_rejected_events_total",] == place.database.quarantine.count_documents({})
    assert shown["tidemark_speed_micro_batch_seconds_count",] == own.committed[own.generation] + 1
    assert shown["tidemark_speed_generation",] == own.generation
    assert time.time() - shown[COMMITTED,] < 600
    assert behind(shown) == {}
    there = topics.partitions(place.settings, 30)
    expected = {(str(number), topic): 0 for topic, count in there.items() for number in range(count)}

    def is_exported() -> bool:
        with topics.admin(place.settings) as client:
            watch.record_end_offsets(place.database, watch.fetch_end_offsets(client, place.settings.topics))
        return behind(figures(place)) == expected

    broker.wait_for(is_exported)


def behind(shown: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Offsets behind by partition and topic."""
    return {key[1:]: value for key, value in shown.items() if key[0] == "tidemark_speed_behind_events"}


def test_unusual_events_a_kill_and_a_graceful_stop(place: Place, wording: Wording) -> None:
    send_large(place, unusual_events())
    with stream(TIDEMARK_SPEED_MEMORY="2g") as running:
        wait_until_served(place, running)
        assert place.wrong() == []
        assert place.wrong_documents() == []
        assert max(len(one["raw"] or b"") for one in place.database.quarantine.find()) == RULES.max_bytes
        require_right_figures(place)
        # Spark's own process dies: the stream must not live on without it.
        (java,) = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        os.kill(int(java), signal.SIGKILL)
        assert running.wait(60) == 1
        # Which error Python meets is chance.
        (output,) = re.findall(r"^\S+ \S+ (ERROR) \w+(; .+\n)", running.text(), re.MULTILINE)
        wording.check(" <error>".join(output), "Spark has died")
    place.send(updates(Random(51), 3_000, keys=200))
    taken = socket.create_server(("127.0.0.1", place.settings.speed_metrics_port))
    with taken, stream(TIDEMARK_MAX_EVENTS_PER_BATCH="100", TIDEMARK_TRIGGER_SECONDS="0") as running:
        start = served(place.database)
        while served(place.database) == start:
            assert running.process.poll() is None, running.text()[-3000:]
            time.sleep(0.1)
        assert running.stop() == 0
        (output,) = [line for line in running.text().splitlines() if place.settings.speed_metrics_url in line]
        wording.check(output.split(" ", 2)[2], "a port that is taken", url=place.settings.speed_metrics_url)
        wording.check(last_line(running), "stopped", mark=served(place.database))
    assert not served(place.database).reaches(place.ends()), "it was not loaded"
    assert place.wrong() == []


def test_a_stream_that_cannot_run_says_why_and_changes_nothing(place: Place, wording: Wording) -> None:
    place.send(updates(Random(52), 200, keys=20))
    products = place.settings.product_topic
    ledger.start_generation(place.database, "rules", {})

    def refused(**environment: str) -> str:
        state = place.database.client[environment.get("TIDEMARK_DATABASE", place.database.name)].state
        before = list(state.find())
        with stream(**environment) as running:
            assert running.wait(90) == 1, running.text()[-3000:]
            assert list(state.find()) == before, "a generation has begun"
            return last_line(running)

    wording.check(refused(TIDEMARK_DATABASE="not_prepared"), "not prepared")
    place.database.state.update_one({"_id": "ledger"}, {"$set": {"rebuilding": 3}})
    wording.check(refused(), "a rebuild")
    place.database.state.update_one({"_id": "ledger"}, {"$set": {"rebuilding": None}})
    broker.configure(products, {"retention.ms": "1000000"})
    wording.check(refused(), "an unsafe topic")
    broker.configure(products, {"retention.ms": "-1"})
    broker.forget(*TopicPartition(products, 1), below=7)
    wording.check(refused(), "missing offsets")
    ledger.start_generation(place.database, "rules", {products: "another id"})
    wording.check(refused(), "another topic", identity=describe_topics(place.settings).identities[products])


def test_a_paused_stream_stops_and_continues_when_resumed(place: Place, wording: Wording) -> None:
    """It serves what is there and ends; started again it waits, without Spark, until it is resumed."""
    place.send(updates(Random(53), 2_000, keys=200))
    with stream(TIDEMARK_MAX_EVENTS_PER_BATCH="400") as running:
        while served(place.database) == TideMark():
            assert running.process.poll() is None, running.text()[-3000:]
            time.sleep(0.1)
        # A transaction leaves an offset at which no event stands: the stream comes past it and never to it.
        producer = Producer({"bootstrap.servers": place.settings.kafka, "transactional.id": "paused"})
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(place.settings.product_topic, b"{}", b"key")
        producer.commit_transaction(30)
        control.request(place.database, "pause", "", "somebody", drain=True)
        assert running.wait(120) == 0
        assert served(place.database).behind(place.ends()) == 1, "it has not served what was there"
        wording.check(last_line(running), mark=served(place.database))
        control.wait(place.database, "pause", 1, 0)
    place.send(updates(Random(54), 300, keys=200))
    with stream() as running:
        while "paused by somebody since" not in running.text():
            assert running.process.poll() is None, running.text()[-3000:]
            time.sleep(0.1)
        assert ledger.read(place.database).generation == 1, "it has begun"
        assert running.stop() == 0
    assert place.wrong() == []


@pytest.mark.soak(proof="stack")
def test_a_hold(place: Place, wording: Wording) -> None:
    """The stream ends before anything is served; accepted, it serves all, in transactions that are small enough."""
    place.send(updates(Random(55), 200, keys=150))
    with stream(TIDEMARK_MAX_NEW_CELLS="5") as running:
        assert running.wait(120) == 0, running.text()[-3000:]
        held = control.read(place.database).held
        assert held is not None
        wording.check(last_line(running), cells=held)
    assert (served(place.database), place.database.cube_cell.count_documents({})) == (TideMark(), 0)
    control.wait(place.database, "pause", 1, 0)
    control.request(place.database, "resume", "", "somebody", drain=True, accept=held)
    with stream("small-transactions", TIDEMARK_MAX_NEW_CELLS="5") as running:
        wait_until_served(place, running)
        assert running.stop() == 0
        assert "continuing with 30 events at once" in running.text()
    assert place.wrong() == []
