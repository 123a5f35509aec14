"""Everything at once, in an order of a seed's choosing: streams and their zombies, nights side by side, rebuilds and rollbacks.

After each step the reports are those of the events below the ledger's offsets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from pyspark.sql import SparkSession
from support.events import any_log
from support.load import updates
from support.manual_stream import Stream, serve, stream_of
from support.places import Place

from tidemark.rendering.verifications import render_verification
from tidemark.serving import ledger, publications, verifications
from tidemark.serving.ledger import Fenced
from tidemark.serving.publications import NoPublication, StaleDraft
from tidemark.spark.batch import Batch
from tidemark.spark.recompute import NotLanded

pytestmark = pytest.mark.servers

EXPECTED_ERRORS = (Fenced, StaleDraft, NoPublication, NotLanded)


class Chaos:
    """Who is at work: one living stream, those it has fenced, and nights at whatever step they are."""

    def __init__(self, place: Place, spark: SparkSession, random: Random) -> None:
        self.place, self.spark, self.random = place, spark, random
        self.work = Batch(place.database, place.settings, spark)
        self.streams: list[Stream] = []
        self.nights: list[Iterator[None]] = []
        self.happened: Counter[str] = Counter()

    def step(self) -> None:
        act = self.random.choice([self.send, self.stream, self.stream, self.start, self.night, self.night, self.night, self.rebuild])
        try:
            act()
            self.happened[act.__name__] += 1
        except EXPECTED_ERRORS as reason:
            self.happened[type(reason).__name__] += 1
        assert self.place.wrong() == [], (act.__name__, self.happened)

    def send(self) -> None:
        self.place.send([*updates(self.random, 60, keys=40), *any_log(self.random, 20)])

    def start(self) -> None:
        self.streams.append(stream_of(self.place, self.spark))

    def stream(self) -> None:
        """Any stream tries, the living one or one of those before."""
        if self.streams:
            stream = self.random.choice([*self.streams, self.streams[-1]])
            try:
                stream.run(stream.next(self.place.log(), self.random.randint(10, 80)))
            except Fenced:
                self.streams.remove(stream)
                raise

    def night(self) -> None:
        """One step of one of the nights, or the first of a new one."""
        if not self.nights or (len(self.nights) < 3 and self.random.random() < 0.25):
            self.nights.append(self.steps())
        night = self.random.choice(self.nights)
        try:
            next(night)
        except StopIteration:
            self.nights.remove(night)
            self.happened["nights"] += 1
        except EXPECTED_ERRORS:
            self.nights.remove(night)
            raise

    def steps(self) -> Iterator[None]:
        self.work.land()
        number = self.work.cut()
        yield
        self.work.recompute(number, self.random.choice(["auto", "full", "incremental"]))
        yield
        # Nothing is altered behind anybody's back here: there is no drift.
        if (drift := self.work.verify(number)["drift"]) and ledger.read(self.place.database).rebuilding is None:
            raise AssertionError(render_verification(verifications.read(self.place.database, number)), drift)
        yield
        self.work.publish(number, 3)

    def rebuild(self) -> None:
        numbers = [one.number for one in publications.listing(self.place.database) if one.layers is not None]
        if self.random.random() < 0.4:
            self.work.rebuild(self.random.choice(numbers))

    def finish(self) -> None:
        """All comes to its end, and one more night finds nothing."""
        serve(self.place, self.spark)
        self.work.nightly("full", "fail", 3)
        assert self.place.wrong() == []
        assert self.place.wrong_documents() == []


def test_random_concurrent_operations_keep_reports_exact(place: Place, spark: SparkSession) -> None:
    chaos = Chaos(place, spark, Random(131))
    chaos.send()
    chaos.start()
    for _ in range(3):
        chaos.step()
    chaos.finish()


@pytest.mark.soak(proof="random")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(3))
def test_random_concurrent_operations_keep_reports_exact_for_several_seeds(place: Place, spark: SparkSession, seed: int) -> None:
    chaos = Chaos(place, spark, Random(seed))
    chaos.send()
    chaos.start()
    for _ in range(250):
        chaos.step()
    chaos.finish()
    assert chaos.happened["nights"] > 3
    assert chaos.happened["rebuild"] > 3
    assert chaos.happened["StaleDraft"] > 0
