"""Nights while the stream works and other nights run: what is served stays right, and who comes too late is told so."""

from __future__ import annotations

from random import Random

import pytest
from pyspark.sql import SparkSession
from support.events import any_log
from support.load import names, updates
from support.manual_stream import serve, stream_of
from support.nights import KEPT, named, night
from support.places import Place
from support.wording import Wording

from tidemark.serving import offsets, publications
from tidemark.serving.ledger import Fenced
from tidemark.serving.publications import NoPublication, StaleDraft
from tidemark.spark.batch import Batch

pytestmark = pytest.mark.servers


@pytest.mark.soak(proof="losses")
def test_late_and_concurrent_publications(place: Place, spark: SparkSession, work: Batch) -> None:
    random = Random(94)
    place.send(updates(random, 100, keys=20))
    stream = serve(place, spark)
    work.land()
    one = work.cut()
    place.send(updates(random, 100, keys=20))
    serve(place, spark, stream)
    work.land()
    assert offsets.from_documents((place.database.state.find_one({"_id": "landed"}) or {})["offsets"]) == place.ends()
    two = work.cut()
    for number in (two, one):
        work.recompute(number, "auto")
        assert work.verify(number)["drift"] == 0
    work.recompute(two, "full")
    assert work.verify(two)["drift"] == 0, "each can be run again"
    work.publish(two, KEPT)
    assert one not in {found.number for found in publications.listing(place.database)}
    with pytest.raises(NoPublication, match=rf"\b{one}\b"):
        work.publish(one, KEPT)
    assert place.wrong() == []
    assert named(night(work)) == {}
    # What was published before changes nothing, a week later or at once; one that was dropped is named.
    place.send(updates(random, 50, keys=20))
    serve(place, spark, stream)
    night(work)
    now = list(place.database.state.find({"_id": {"$ne": "lease batch"}}))
    work.publish(two, KEPT)
    assert work.verify(two)["drift"] == 0
    assert list(place.database.state.find({"_id": {"$ne": "lease batch"}})) == now
    assert place.wrong() == []


def test_events_between_the_landing_and_the_cut_are_landed(place: Place, spark: SparkSession, work: Batch) -> None:
    """As they do every night where events never cease: the mark of the cut lies beyond what was landed."""
    random = Random(174)
    place.send(updates(random, 60, keys=20))
    stream = serve(place, spark)
    work.land()
    place.send(updates(random, 40, keys=20))
    serve(place, spark, stream)
    number = work.cut()
    work.recompute(number, "auto")
    assert work.verify(number)["drift"] == 0
    work.publish(number, KEPT)
    assert publications.served(place.database) == number
    assert place.wrong() == []


def test_a_stream_ahead_of_the_mark_is_no_drift(place: Place, spark: SparkSession, work: Batch, wording: Wording) -> None:
    """What the stream has done since the cut, committed or not, is no drift; nor is a name told since, another one or the same."""
    random = Random(95)
    names_sent = list(names(random, 40))
    place.send([*any_log(random, 100), *updates(random, 200, keys=30), *names_sent])
    stream = serve(place, spark)
    work.land()
    number = work.cut()
    place.send([*any_log(random, 200), *updates(random, 300, keys=60), *names_sent[-20:], *names(random, 20)])
    stream.run(stream.next(place.log(), 250))
    zombie = stream
    stream = stream_of(place, spark)
    with pytest.raises(Fenced):
        zombie.run(zombie.next(place.log(), 100))  # written ahead, and never committed
    work.recompute(number, "auto")
    stream.run(stream.next(place.log(), 30))
    found = work.verify(number)
    assert found["drift"] == 0
    wording.check(found["text"], "no drift")
    work.publish(number, KEPT)
    assert place.wrong() == []
    serve(place, spark, stream)
    assert place.wrong() == []
    assert place.wrong_documents() == []


@pytest.mark.soak(proof="losses")
def test_a_rebuild_voids_a_cut_that_is_older(place: Place, spark: SparkSession, work: Batch, wording: Wording) -> None:
    random = Random(96)
    place.send([*any_log(random, 50), *updates(random, 100, keys=30)])
    stream = serve(place, spark)
    named(night(work))
    place.send(updates(random, 50, keys=30))
    serve(place, spark, stream)
    work.land()
    number = work.cut()
    work.recompute(number, "auto")
    assert work.verify(number)["drift"] == 0
    work.rebuild(1)
    with pytest.raises(StaleDraft) as refused:
        work.verify(number)
    wording.check(str(refused.value), "a rebuild")
