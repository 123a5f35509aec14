"""Drift on real servers: what was altered is named and corrected, rows that are missing are counted, changed rules heal."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random

import pytest
from pyspark.sql import SparkSession
from support.catalogs import EVERY_KIND_OF_ROW, ingest, read
from support.events import any_log
from support.load import updates
from support.manual_stream import serve, stream_of
from support.nights import KEPT, named, night
from support.places import Place
from support.wording import Wording

from tidemark.catalog.cube import label
from tidemark.catalog.rules import RULES
from tidemark.ingest.files import FileKind
from tidemark.ingest.generate import write
from tidemark.serving import ledger, publications
from tidemark.serving.cells import TooManyCells
from tidemark.serving.publications import OtherRules
from tidemark.serving.verifications import ApprovalRequired
from tidemark.spark.batch import Batch

pytestmark = pytest.mark.servers


def test_artificial_drift_is_named_exactly_and_corrected(place: Place, spark: SparkSession, work: Batch, wording: Wording) -> None:
    random = Random(91)
    place.send([*any_log(random, 300), *updates(random, 500, keys=80)])
    stream = serve(place, spark)
    assert named(night(work)) == {}
    place.send(updates(random, 200, keys=80))
    serve(place, spark, stream)

    altered, deleted, moved, misnamed = sorted(place.database.product.distinct("_id"))[3:7]
    category = place.database.category.find_one({"_id": {"$in": place.database.cube_cell.distinct("category_id")}})
    record = place.database.quarantine.find_one({}, sort=[("_id", 1)])
    cell = place.database.cube_cell.find_one({})
    assert category
    assert record
    assert cell
    place.database.cube_cell.update_one({"_id": cell["_id"]}, {"$inc": {"products": 1}})
    before = place.database.product.find_one({"_id": altered}) or {}
    document = place.database.product.find_one({"_id": moved}) or {}
    right_name = (place.database.product.find_one({"_id": misnamed}) or {})["category_name"]
    place.database.product.update_one({"_id": altered}, {"$set": {"price": 1234.5}})
    place.database.product.update_one({"_id": misnamed}, {"$set": {"category_name": "made up"}})
    place.database.product.delete_one({"_id": deleted})
    place.database.product.update_one({"_id": moved}, {"$set": {"_tide.version.registered_at": 5}})
    place.database.product.insert_one({**before, "_id": "B0MADEUP00", "asin": "B0MADEUP00"})
    place.database.category.update_one({"_id": category["_id"]}, {"$set": {"category_name": "made up"}})
    place.database.quarantine.delete_one({"_id": record["_id"]})
    place.database.quarantine.insert_one({**record, "_id": "made up"})

    found = named(night(work))
    dimensions = cell["_id"]
    assert {kind: {*those} for kind, those in found.items()} == {
        "cell": {
            f"category {dimensions['category_id']}, price level {label(dimensions['price_level'])}, "
            f"best seller {'yes' if dimensions['is_best_seller'] else 'no'}"
        },
        "product": {altered, deleted, moved, misnamed, "B0MADEUP00"},
        "category": {str(category["_id"]), f"cells of {category['_id']}"},
        "quarantine": {record["_id"], "made up"},
    }
    how = found["product"]
    wording.check(how[altered], "a price", before=repr(before["price"]))
    wording.check(how[misnamed], "a product's name of its category", right=f"'{right_name}'")
    wording.check(how[deleted], "a product that was deleted")
    wording.check(how["B0MADEUP00"], "a product that was made up")
    version = document["_tide"]["version"]
    wording.check(how[moved], "a version", now=(*{**version, "registered_at": 5}.values(),), right=(*version.values(),))
    how, name = found["category"], category["category_name"]
    of_name = ", ".join(f"{part} {value}" for part, value in category["_tide"]["version"].items())
    wording.check(how[str(category["_id"])], "a name", version=of_name, right=f"'{name}'")
    wording.check(how[f"cells of {category['_id']}"], "a name in cells", right=f"'{name}'")
    how = found["quarantine"]
    wording.check(how[record["_id"]], "a record that was deleted")
    wording.check(how["made up"], "a record that was made up", reason=record["reason"])
    assert place.wrong() == []
    place.send(updates(random, 100, keys=80))
    serve(place, spark)
    assert place.wrong() == []
    assert place.wrong_documents() == []


@pytest.mark.soak(proof="losses")
def test_corrections_of_very_many_cells_wait_for_a_person(place: Place, spark: SparkSession) -> None:
    """As where a withdrawal has been taken back. Of too many for a rebuild nothing is changed."""
    place.send(updates(Random(99), 100, keys=40))
    serve(place, spark)
    place.database.cube_cell.delete_many({})

    def night_with(**limits: int) -> Batch:
        return Batch(place.database, place.settings.model_copy(update=limits), spark)

    with pytest.raises(TooManyCells):
        night_with(max_cells=3).nightly("auto", "correct", KEPT)
    work = night_with(implausible_new_cells=3)
    with pytest.raises(ApprovalRequired):
        work.nightly("auto", "correct", KEPT)
    assert (publications.served(place.database), place.database.report_cube.count_documents({})) == (0, 0)
    number = publications.listing(place.database)[0].number
    with pytest.raises(TooManyCells):
        night_with(max_cells=3).rebuild(number)
    assert ledger.read(place.database).rebuilding is None
    work.publish(number, KEPT)
    assert place.wrong() == []


@pytest.mark.soak(proof="losses")
def test_changed_rules_heal_the_past(place: Place, spark: SparkSession, work: Batch) -> None:
    """They accept what was rejected, reject what was accepted, and name what had no name."""
    random = Random(96)
    former = replace(RULES, edition=0, max_dollars=200, max_name_length=11, asin="[A-Za-z0-9]{9,10}")
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
    files = [
        read(categories, FileKind.CATEGORY, "2024-01-01"),
        read(day, FileKind.PRODUCT, "2024-01-01"),
        read(bad, FileKind.PRODUCT, "2024-01-02"),
    ]
    ingest(place, files, chunk_bytes=2_000)
    # Rows that come twice, as a chunk that is repeated brings them, count once.
    place.send([event._replace(topic="ingest-product") for event in place.log() if event.topic == place.settings.product_topic][:50])
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
