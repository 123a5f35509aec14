"""The batch layer on real servers: it names what was altered, corrects it, and the stream goes on to the right reports."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random

import pytest
from pyspark.sql import SparkSession
from support import broker
from support.catalogs import EVERY_KIND_OF_ROW, ingest, read
from support.events import any_log
from support.hands import serve, stream_of
from support.load import updates
from support.places import Place
from support.wording import Wording

from catalog.marks import TideMark, TopicPartition
from catalog.rules import RULES
from catalog.versions import CategoryVersion
from ingest.files import Kind
from ingest.generate import write
from serving import ledger, offsets, publications, verifications
from serving.database import Document
from serving.ledger import Category, Fenced
from serving.publications import NoPublication, OtherRules, StartAgain
from settings import settings
from spark import batch
from spark.batch import Batch
from spark.log import MissingOffsets
from spark.recompute import Mode

pytestmark = pytest.mark.servers

KEPT = 7


@pytest.fixture
def work(place: Place, spark: SparkSession) -> Batch:
    return Batch(place.database, spark)


def night(work: Batch, mode: Mode = Mode.AUTO) -> Document:
    """One nightly run; its verification."""
    work.nightly(mode.value, "correct", KEPT)
    return verifications.read(work.database, max(one.number for one in publications.listing(work.database)))


def named(verification: Document) -> dict[str, dict[str, str]]:
    """What a verification names, by kind."""
    found = {kind: {one["what"]: one["how"] for one in named} for kind, named in verification["named"].items() if named}
    assert {kind: len(named) for kind, named in found.items()} == {kind: count for kind, count in verification["counts"].items() if count}
    return found


def test_made_up_drift_is_named_exactly_and_corrected(place: Place, spark: SparkSession, work: Batch, wording: Wording) -> None:
    random = Random(91)
    place.send([*any_log(random, 300), *updates(random, 500, keys=80)])
    stream = serve(place, spark)
    assert named(night(work)) == {}
    place.send(updates(random, 200, keys=80))
    serve(place, spark, stream)
    assert named(night(work)) == {}, "incremental"
    assert place.wrong() == []

    altered, deleted, moved = sorted(place.database.product.distinct("_id"))[3:6]
    category = place.database.category.find_one({"_id": {"$in": place.database.cube_cell.distinct("category_id")}})
    record = place.database.quarantine.find_one({}, sort=[("_id", 1)])
    cell = place.database.cube_cell.find_one({})
    assert category
    assert record
    assert cell
    place.database.cube_cell.update_one({"_id": cell["_id"]}, {"$inc": {"products": 1}})
    before = place.database.product.find_one({"_id": altered}) or {}
    told = place.database.product.find_one({"_id": moved}) or {}
    place.database.product.update_one({"_id": altered}, {"$set": {"price": 1234.5}})
    place.database.product.delete_one({"_id": deleted})
    place.database.product.update_one({"_id": moved}, {"$set": {"_tide.version.told_at": 5}})
    place.database.product.insert_one({**before, "_id": "B0MADEUP00", "asin": "B0MADEUP00"})
    place.database.category.update_one({"_id": category["_id"]}, {"$set": {"category_name": "made up"}})
    place.database.quarantine.delete_one({"_id": record["_id"]})
    place.database.quarantine.insert_one({**record, "_id": "made up"})

    found = named(night(work))
    dimensions = cell["_id"]
    assert {kind: {*those} for kind, those in found.items()} == {
        "cell": {"category {category_id}, level {price_level}, best seller {is_best_seller}".format_map(dimensions)},
        "product": {altered, deleted, moved, "B0MADEUP00"},
        "category": {str(category["_id"]), f"cells of {category['_id']}"},
        "quarantine": {record["_id"], "made up"},
    }
    how = found["product"]
    wording.check(how[altered], "a price", before=repr(before["price"]))
    wording.check(how[deleted], "a product that was deleted")
    wording.check(how["B0MADEUP00"], "a product that was made up")
    version = told["_tide"]["version"]
    wording.check(how[moved], "a version", now=(*{**version, "told_at": 5}.values(),), right=(*version.values(),))
    how, name = found["category"], category["category_name"]
    of_name = CategoryVersion(**category["_tide"]["version"])
    wording.check(how[str(category["_id"])], "a name", now=Category("made up", of_name), right=Category(name, of_name))
    wording.check(how[f"cells of {category['_id']}"], "a name in cells", right=repr(name))
    how = found["quarantine"]
    wording.check(how[record["_id"]], "a record that was deleted")
    wording.check(how["made up"], "a record that was made up", reason=record["reason"])
    assert place.wrong() == []
    place.send(updates(random, 100, keys=80))
    serve(place, spark)
    assert place.wrong() == []
    assert place.wrong_documents() == []
    assert named(night(work, Mode.FULL)) == {}
    assert place.wrong() == []
    assert place.wrong_documents() == []


def test_what_is_lost_is_rebuilt_and_the_stream_goes_on(place: Place, spark: SparkSession, work: Batch) -> None:
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
def test_whatever_is_lost(place: Place, spark: SparkSession, work: Batch) -> None:
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


def test_rollback_and_back_again(place: Place, spark: SparkSession, work: Batch, wording: Wording) -> None:
    random = Random(93)
    marks = [TideMark()]
    for _ in range(2):
        place.send([*any_log(random, 60), *updates(random, 100, keys=40)])
        serve(place, spark)
        assert named(night(work)) == {}
        marks.append(ledger.read(place.database).offsets)
    for number in (0, 1):
        said = batch.rollback_in_words(place.database, publications.read(place.database, number))
        now = ledger.read(place.database).offsets
        wording.check(said, f"to {number}", now=now, mark=marks[number])
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


@pytest.mark.soak(proof="losses")
def test_an_old_publish_and_two_runs_at_once(place: Place, spark: SparkSession, work: Batch) -> None:
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


def test_the_stream_is_ahead_when_it_is_verified(place: Place, spark: SparkSession, work: Batch, wording: Wording) -> None:
    """What the stream has done since the cut, committed or not, is no drift; nor is a name it has told since."""
    random = Random(95)
    place.send([*any_log(random, 100), *updates(random, 200, keys=30)])
    stream = serve(place, spark)
    work.land()
    number = work.cut()
    place.send([*any_log(random, 200), *updates(random, 300, keys=60)])
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
    # A rebuild that began after the cut makes it void.
    work.land()
    number = work.cut()
    work.recompute(number, "auto")
    work.rebuild(1)
    with pytest.raises(StartAgain) as refused:
        work.verify(number)
    wording.check(str(refused.value), "a rebuild")


@pytest.mark.soak(proof="losses")
def test_mended_rules_heal_history(place: Place, spark: SparkSession, work: Batch) -> None:
    """They accept what was rejected, reject what was accepted, and name what had no name."""
    random = Random(96)
    former = replace(RULES, edition=0, most_dollars=200, most_name=11, asin="[A-Za-z0-9]{9,10}")
    place.send([*any_log(random, 400), *updates(random, 600, keys=80)])
    stream = stream_of(place, spark, former)
    stream.run(stream.next(place.log(), 10_000))
    assert place.wrong() != [], "these rules make no difference"
    work.land()
    with pytest.raises(OtherRules) as refused:
        work.cut()
    assert all(rules.fingerprint() in str(refused.value) for rules in (former, RULES))
    place.send(updates(random, 100, keys=80))
    serve(place, spark)
    found = night(work)
    assert {kind for kind, count in found["counts"].items() if count} >= {"cell", "product", "quarantine"}
    assert place.wrong() == []
    assert place.wrong_documents() == []
    assert place.database.quarantine.count_documents({"status": "healed"}) > 0
    place.send(updates(random, 100, keys=80))
    serve(place, spark)
    assert named(night(work)) == {}
    assert place.wrong() == []
    assert place.wrong_documents() == []


def test_every_row_of_a_file_is_accounted_for(place: Place, spark: SparkSession, work: Batch, tmp_path: Path, wording: Wording) -> None:
    categories, day = write(120, 1, seed=3, out=tmp_path, first_day=date(2024, 1, 1))
    bad = tmp_path / "bad.csv"
    bad.write_bytes(EVERY_KIND_OF_ROW)
    files = [read(categories, Kind.CATEGORY, "2024-01-01"), read(day, Kind.PRODUCT, "2024-01-01"), read(bad, Kind.PRODUCT, "2024-01-02")]
    ingest(place, files, chunk_bytes=2_000)
    # Rows that come twice, as a chunk that is repeated brings them, count once.
    place.send([event._replace(topic="ingest-product") for event in place.log() if event.topic == settings().product_topic][:50])
    serve(place, spark)
    place.database.ingestion.update_one({"file": str(bad)}, {"$inc": {"rows": 1}})
    found = night(work)
    assert found["reconciled"] == 2
    (wrong,) = named(found)["ingestion"].values()
    wording.check(wrong)
    place.database.ingestion.update_one({"file": str(bad)}, {"$inc": {"rows": -1}})
    found = night(work)
    assert (found["reconciled"], found["drift"]) == (1, 0)
    assert night(work)["reconciled"] == 0, "each is accounted for once"


def test_what_a_rebuild_needs_is_asked_for_before_anything_is_changed(
    place: Place, spark: SparkSession, work: Batch, wording: Wording
) -> None:
    random = Random(97)
    place.send(updates(random, 200, keys=20))
    serve(place, spark)
    night(work)
    place.send(updates(random, 200, keys=20))
    serve(place, spark)
    before = list(place.database.state.find({"_id": {"$ne": "lease batch"}}))
    first = TopicPartition(settings().product_topic, 0)
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
