"""Rebuilds on real servers: what is lost comes back, a publication is gone back to, and the stream goes on to the right reports."""

from __future__ import annotations

from random import Random

import pytest
from pyspark.sql import SparkSession
from support import broker
from support.events import any_log
from support.load import updates
from support.manual_stream import serve, stream_of
from support.nights import named, night
from support.places import Place
from support.wording import Wording

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.rules import RULES
from tidemark.serving import ledger, publications
from tidemark.serving.ledger import Fenced
from tidemark.serving.publications import NoPublication, OtherRules
from tidemark.spark.batch import Batch
from tidemark.spark.log import MissingOffsets
from tidemark.spark.recompute import Mode

pytestmark = pytest.mark.servers


def test_a_rebuild_restores_all_lost_collections_and_the_stream_continues(place: Place, spark: SparkSession, work: Batch) -> None:
    _lose(place, spark, work, ["product", "cube_cell", "category", "quarantine"])


@pytest.mark.soak(proof="losses")
def test_what_a_former_stream_writes_after_a_rebuild_is_no_drift_of_ours(place: Place, spark: SparkSession, work: Batch) -> None:
    """Products that a rollback has removed come again with events that are served again: whose write is there meanwhile does not matter."""
    place.send(updates(Random(94), 120, keys=30))
    former = stream_of(place, spark)
    work.rebuild(0)
    with pytest.raises(Fenced):
        former.run(former.next(place.log(), 120))
    assert place.database.product.count_documents({}) > 0
    assert named(night(work)) == {}
    serve(place, spark)
    assert place.wrong() == []
    assert place.wrong_documents() == []
    assert named(night(work)) == {}


@pytest.mark.soak(proof="losses")
@pytest.mark.timeout(1800)
def test_a_rebuild_restores_each_lost_collection(place: Place, spark: SparkSession, work: Batch) -> None:
    _lose(place, spark, work, ["product"], ["cube_cell"], ["product", "cube_cell"], ["category"], ["quarantine"])


def _lose(place: Place, spark: SparkSession, work: Batch, *losses: list[str]) -> None:
    random = Random(92)
    place.send([*any_log(random, 200), *updates(random, 300, keys=60)])
    serve(place, spark)
    night(work)
    first = publications.served(place.database)
    for lost in losses:
        place.send(updates(random, 100, keys=60))
        stream = serve(place, spark)
        for collection in lost:
            place.database[collection].delete_many({})
        work.rebuild(first)
        with pytest.raises(Fenced):
            stream.run(stream.next(place.log(), 10))
        assert place.wrong() == [], lost
        # Prices change and categories move while it catches up.
        place.send(updates(random, 150, keys=60))
        serve(place, spark)
        assert place.wrong() == [], lost
        assert place.wrong_documents() == [], lost
    assert named(night(work)) == {}


@pytest.mark.soak(proof="rebuilds")
def test_a_rollback_and_its_reversal(place: Place, spark: SparkSession, work: Batch, wording: Wording) -> None:
    random = Random(93)
    marks = [TideMark()]
    for _ in range(2):
        place.send([*any_log(random, 60), *updates(random, 100, keys=40)])
        serve(place, spark)
        assert named(night(work)) == {}
        marks.append(ledger.read(place.database).offsets)
    for number in (0, 1):
        message = work.rebuild_effect(number)
        now = ledger.read(place.database).offsets
        wording.check(message, f"to {number}", now=now, mark=marks[number])
        work.rebuild(number)
        assert ledger.read(place.database).offsets == marks[number]
        assert publications.served(place.database) == number
        assert place.wrong() == []
        assert place.wrong_products(marks[number]) == []
    # A night after a rollback goes on from what is served, whatever other publications there are.
    serve(place, spark)
    assert named(night(work, Mode.INCREMENTAL)) == {}
    assert place.wrong() == []
    assert place.wrong_documents() == []
    (line,) = [one.split() for one in work.publications().splitlines() if "served" in one.split()]
    assert int(line[0]) == publications.served(place.database)


def test_preconditions_of_a_rebuild_are_checked_before_any_change(place: Place, spark: SparkSession, work: Batch, wording: Wording) -> None:
    random = Random(97)
    place.send(updates(random, 200, keys=20))
    serve(place, spark)
    night(work)
    place.send(updates(random, 200, keys=20))
    serve(place, spark)
    before = list(place.database.state.find({"_id": {"$ne": "lease batch"}}))
    first = TopicPartition(place.settings.product_topic, 0)
    broker.forget(*first, below=place.ends()[first])
    with pytest.raises(MissingOffsets) as missing:
        work.rebuild(1)
    assert f"{first.topic}/0:" in str(missing.value)
    left = publications.read(place.database, 1).mark[first], place.ends()[first] - 1
    assert all(f" {offset} " in str(missing.value) for offset in left)
    with pytest.raises(NoPublication, match=r"\b9\b"):
        work.rebuild(9)
    place.database.publication.update_one({"_id": 1}, {"$set": {"rules": "older"}})
    with pytest.raises(OtherRules) as refused:
        work.rebuild(1)
    wording.check(str(refused.value), rules=RULES.fingerprint())
    assert list(place.database.state.find({"_id": {"$ne": "lease batch"}})) == before
