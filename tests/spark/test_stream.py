"""The stream, inside of this process: what is added, lost or created anew while it runs."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import pytest
from pymongo.database import Database
from pyspark.sql import SparkSession
from support import broker
from support.load import updates
from support.places import Place

from tidemark.catalog.marks import TopicPartition
from tidemark.catalog.rules import RULES
from tidemark.serving import control, ledger, notes
from tidemark.serving.bindings import TopicsRecreated
from tidemark.serving.database import Document
from tidemark.settings import Settings
from tidemark.spark import metrics
from tidemark.spark.log import MissingOffsets, describe_log
from tidemark.spark.speed import Stream, follow

pytestmark = pytest.mark.servers

MAX_EVENTS = 120


class Running:
    """A thread that follows the log."""

    def __init__(self, act: Callable[[threading.Event], object]) -> None:
        self.failure: BaseException | None = None
        self.stop_requested = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(act,), daemon=True)
        self._thread.start()

    def _run(self, act: Callable[[threading.Event], object]) -> None:
        try:
            act(self.stop_requested)
        except BaseException as failure:
            self.failure = failure

    def wait(self, seconds: float = 120) -> None:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "it does not end"

    def until(self, true: Callable[[], bool], seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while not true():
            assert self._thread.is_alive(), self.failure
            assert time.monotonic() < until, "nothing goes on"
            time.sleep(0.05)


@contextmanager
def running(act: Callable[[threading.Event], object]) -> Iterator[Running]:
    found = Running(act)
    try:
        yield found
    finally:
        found.stop_requested.set()
        found.wait()


@pytest.fixture
def small_batches(place: Place) -> Place:
    """A place whose stream takes few events at a time."""
    return replace(place, settings=Settings(max_events_per_batch=MAX_EVENTS, trigger_seconds=0.5))


def served(place: Place) -> Callable[[], bool]:
    ends = place.ends()
    return lambda: ledger.read(place.database).offsets.reaches(ends)


def heartbeat(database: Database[Document]) -> object:
    return (database.state.find_one({"_id": "ledger"}) or {}).get("heartbeat")


def test_partitions_added_while_the_stream_runs(small_batches: Place, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(metrics, "committed", lambda events, *_: sizes.append(events))
    monkeypatch.setattr(notes, "MAX_SECONDS", 60)  # of a note that is given up it is not known whether it counts
    with running(lambda stop_requested: follow(small_batches.database, small_batches.settings, stop_requested)) as stream:
        stream.until(lambda: ledger.read(small_batches.database).generation == 1)
        idle = heartbeat(small_batches.database)
        stream.until(lambda: heartbeat(small_batches.database) != idle)
        small_batches.send(updates(Random(41), 350, keys=100))
        stream.until(served(small_batches))
        broker.add_partitions(small_batches.settings.product_topic, 6)
        small_batches.send(updates(Random(42), 150, keys=100))
        assert small_batches.ends()[TopicPartition(small_batches.settings.product_topic, 5)] > 0
        stream.until(served(small_batches))
    assert stream.failure is None
    assert ledger.read(small_batches.database).generation == 2
    assert small_batches.wrong() == []
    assert small_batches.wrong_documents() == []
    # Spark rounds each partition's part up.
    assert max(sizes) <= MAX_EVENTS + 7
    assert len(sizes) >= 500 / (MAX_EVENTS + 7)
    minutes = list(small_batches.database.stream_minute.find())
    assert sum(one["micro_batches"] for one in minutes) == len(sizes)
    assert sum(one["events"] for one in minutes) == sum(sizes) == 500


def test_a_topic_recreated_while_the_stream_runs(small_batches: Place, spark: SparkSession) -> None:
    """With more events than before, so that no offset tells."""
    with running(lambda stop_requested: follow(small_batches.database, small_batches.settings, stop_requested)) as stream:
        small_batches.send(updates(Random(43), 100, keys=20))
        stream.until(served(small_batches))
        before = ledger.read(small_batches.database)
        broker.recreate(small_batches.settings.product_topic)
        small_batches.send(updates(Random(44), 500, keys=20))
        stream.wait()
    assert isinstance(stream.failure, TopicsRecreated)
    assert ledger.read(small_batches.database) == before


def test_offsets_deleted_while_the_stream_runs(small_batches: Place, spark: SparkSession) -> None:
    """They come and go between two micro-batches."""
    with running(lambda stop_requested: follow(small_batches.database, small_batches.settings, stop_requested)) as stream:
        small_batches.send(updates(Random(45), 100, keys=20))
        stream.until(served(small_batches))
        before = ledger.read(small_batches.database)
        for number in range(30):
            small_batches.send(updates(Random(46 + number), 200, keys=20))
            first = TopicPartition(small_batches.settings.product_topic, 0)
            broker.forget(*first, below=small_batches.ends()[first])
            if stream.failure:
                break
        stream.wait()
    assert isinstance(stream.failure, MissingOffsets)
    lost = re.search(rf"{first.topic}/0\D+(\d+)\D+(\d+)", str(stream.failure))
    assert lost
    assert int(lost[1]) <= int(lost[2]), "from the first of them to the last"
    assert ledger.read(small_batches.database).generation == before.generation
    assert (small_batches.database.state.find_one({"_id": "ledger"}) or {})["rebuilding"] is None


class Contended:
    """A lock that whoever ends the stream gets just when a micro-batch waits for it, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits = threading.Event()

    def __enter__(self) -> None:
        if threading.current_thread().name == "ending":
            self._lock.acquire()
            self._waits.clear()
            assert self._waits.wait(60), "no micro-batch has come"
        else:
            self._waits.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_the_stream_stops_while_a_micro_batch_is_about_to_begin(small_batches: Place, spark: SparkSession) -> None:
    small_batches.send(updates(Random(47), 3_000, keys=50))
    found = describe_log(small_batches.settings)
    own = ledger.start_generation(small_batches.database, RULES.fingerprint(), found.identities)

    def run(stop_requested: threading.Event) -> None:
        threading.current_thread().name = "ending"
        of, wanted = small_batches.settings, control.read(small_batches.database)
        stream = Stream(spark, small_batches.database, of, found, own, RULES, wanted, stop_requested, of.max_events_per_batch)
        stream._at_work = Contended()  # type: ignore[assignment]
        stream.run()

    with running(run) as stream:
        stream.until(lambda: ledger.read(small_batches.database).committed.get(own.generation, -1) >= 1)
        stream.stop_requested.set()
        stream.wait(90)
    assert stream.failure is None
    assert not served(small_batches)(), "it had nothing left to begin"
    assert small_batches.wrong() == []
