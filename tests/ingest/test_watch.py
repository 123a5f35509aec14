"""The watcher writes down where the log ends, and goes on when a server comes back."""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Producer
from support.broker import configure, wait_for
from support.places import Place
from support.servers import Servers
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark
from tidemark.ingest import topics, watch
from tidemark.ingest.produce import RECOMMENDED, NotAcknowledged, produce
from tidemark.ingest.records import Message
from tidemark.serving import offsets

pytestmark = pytest.mark.servers


@contextmanager
def watching(place: Place) -> Iterator[threading.Thread]:
    until = threading.Event()
    thread = threading.Thread(target=watch.watch, args=(place.database, place.settings, until))
    thread.start()
    try:
        yield thread
    finally:
        until.set()
        thread.join(60)
    assert not thread.is_alive()


@pytest.fixture
def frequent_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "EVERY_SECONDS", 0.1)
    monkeypatch.setattr(watch, "AFTER_FAILURE_SECONDS", 0.2)
    monkeypatch.setattr(watch, "admin", partial(topics.admin, within_seconds=2))


def log_end(place: Place) -> dict[str, Any]:
    return place.database.state.find_one({"_id": "log_end"}) or {}


def recorded(place: Place) -> TideMark:
    return offsets.from_documents(log_end(place).get("offsets"))


def send(place: Place, count: int) -> None:
    place.send(Event("ingest-product", 0, 0, 0, b"%d" % number, b"x") for number in range(count))


def test_it_fetches_start_and_end_offsets_of_every_partition(place: Place) -> None:
    of = place.settings
    with topics.admin(of) as client:
        empty = watch.fetch_end_offsets(client, of.topics)
        send(place, 50)
        found = watch.fetch_end_offsets(client, of.topics)
    partitions = [(of.category_topic, 0), *((of.product_topic, number) for number in range(4))]
    assert [(one["topic"], one["partition"]) for one in found] == partitions
    assert [(one["start"], one["offset"]) for one in empty] == [(0, 0)] * 5
    assert sum(one["offset"] for one in found) == 50
    assert [one["start"] for one in found] == [0] * 5


def test_a_missing_topic_has_no_partitions(place: Place) -> None:
    topic = place.settings.category_topic
    with topics.admin(place.settings) as client:
        found = watch.fetch_end_offsets(client, ("nowhere", topic))
        assert [(one["topic"], one["partition"]) for one in found] == [(topic, 0)]
        assert watch.fetch_end_offsets(client, ("nowhere", "nothing")) == []


def test_recorded_offsets_follow_new_events(place: Place, frequent_measurements: None) -> None:
    """The moment is MongoDB's, and moves on while nothing comes."""
    with watching(place):
        wait_for(lambda: "measured_at" in log_end(place))
        assert len(recorded(place)) == 0
        send(place, 30)
        wait_for(lambda: recorded(place) == place.ends())
        measured_at = log_end(place)["measured_at"]
        assert abs((datetime.now(UTC) - measured_at).total_seconds()) < 30
        wait_for(lambda: log_end(place)["measured_at"] > measured_at)
    assert sum(recorded(place).values()) == 30


def test_the_durability_of_the_topics_follows_their_configuration(
    place: Place, frequent_measurements: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "DESCRIBE_EVERY_SECONDS", 0.1)
    product_topic, category_topic = place.settings.topics

    def flushed() -> dict[str, bool]:
        topics_now = log_end(place).get("topics", [])
        assert {one["copies"] for one in topics_now} <= {1}
        return {one["topic"]: one["flushed"] for one in topics_now}

    with watching(place):
        wait_for(lambda: flushed() == {product_topic: False, category_topic: False})
        configure(product_topic, {"flush.messages": "1"})
        wait_for(lambda: flushed() == {product_topic: True, category_topic: False})


def test_it_recovers_when_a_killed_broker_returns(
    fallible: Servers, fallible_place: Place, frequent_measurements: None, caplog: pytest.LogCaptureFixture, wording: Wording
) -> None:
    """The watcher waits for it; producing fails in bounded time and says what to do, and works as soon as the broker does."""
    place = fallible_place
    caplog.set_level(logging.INFO, watch.log.name)

    def logged() -> list[tuple[str, str]]:
        """Level and words, without the reasons in them."""
        return [(record.levelname, str(record.msg)) for record in caplog.records if record.name == watch.log.name]

    producer = Producer({"bootstrap.servers": place.settings.kafka, **RECOMMENDED, "log_level": 0})
    given = [Message(b"key", b"x", [])]
    produce(producer, place.settings.product_topic, given, 20)
    with watching(place):
        wait_for(lambda: recorded(place) == place.ends())
        fallible.kafka.kill()
        try:
            started = time.monotonic()
            for one in (producer, Producer({"bootstrap.servers": place.settings.kafka, **RECOMMENDED, "log_level": 0})):
                with pytest.raises(NotAcknowledged) as refused:
                    produce(one, place.settings.product_topic, given, 1)
                wording.check(re.sub(r"\([^)]*\)", "(<what its client says>)", str(refused.value)), "producer")
            assert time.monotonic() - started < 10
            wait_for(lambda: bool(logged()))
            measured_at = log_end(place)["measured_at"]
        finally:
            fallible.kafka.start()
            fallible.wait()
        assert produce(producer, place.settings.product_topic, given, 20).events == 1
        wait_for(lambda: recorded(place) == place.ends())
        assert log_end(place)["measured_at"] > measured_at
        assert sum(recorded(place).values()) == 2
        wait_for(lambda: len(logged()) > 1)
    assert [level for level, _ in logged()] == ["WARNING", "INFO"], "what fails is said once"
    wording.check("\n".join(words for _, words in logged()), "watcher")


def test_the_command_stops_on_a_signal(place: Place, wording: Wording) -> None:
    process = subprocess.Popen([sys.executable, "-m", "tidemark.ingest.watch"], stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: "measured_at" in log_end(place))
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    wording.check(re.sub(r"^[0-9-]+ [0-9:,]+ ", "", output.splitlines()[0]))
