"""The quarantine on the whole path: replays are in the reports as the recomputation has them, and marks outlive nights and rebuilds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import Producer
from pyspark.sql import SparkSession
from support.catalogs import EVERY_KIND_OF_ROW, ingest, read
from support.events import any_log
from support.load import updates
from support.manual_stream import serve, stream_of
from support.names import NAMES
from support.nights import named, night
from support.places import Place
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.rules import RULES, Rules
from tidemark.ingest import quarantine_jobs as jobs
from tidemark.ingest.files import FileKind
from tidemark.ingest.produce import RECOMMENDED
from tidemark.serving import withdrawals
from tidemark.serving.database import Document
from tidemark.serving.publications import OtherRules
from tidemark.spark.batch import Batch

pytestmark = pytest.mark.servers

EVERY_FIELD = {
    **{"asin": "B0PATCHED0", "title": "Patched", "stars": "3.5", "reviews": "1", "boughtInLastMonth": "50", "price": "12.34"},
    **{"listPrice": "20", "category_id": "5", "isBestSeller": "True", "date": "2023-05-05", "id": "11", "category_name": "Patched"},
}


def replay(place: Place, rules: Rules | None = None, **parameters: Any) -> jobs.Sent:
    decision = jobs.preview_run(place.database, parameters, jobs.SEND, place.settings, rules)
    assert decision.preview is not None
    configuration = {"bootstrap.servers": place.settings.kafka, **RECOMMENDED}
    mark = decision.preview["mark"]
    sent = jobs.send(place.database, lambda: Producer(configuration), configuration, parameters, mark, "a run", place.settings, rules)
    assert sent == jobs.Sent(decision.preview["valid"], decision.preview["records"] - decision.preview["valid"])
    return sent


def records(place: Place) -> list[Document]:
    return list(place.database.quarantine.find().sort("_id"))


def states(place: Place) -> list[Document]:
    """Products and categories but for the bookkeeping, and the reports' cells."""
    found = [*place.database.product.find().sort("_id"), *place.database.category.find().sort("_id")]
    return [{name: one[name] for name in one if name != "_tide"} for one in found] + sorted(
        place.database.report_cube.find(), key=lambda one: json.dumps(one, sort_keys=True)
    )


def assert_exact(place: Place) -> None:
    assert place.wrong() == []
    assert place.wrong_documents() == []


def test_replays_of_every_kind_keep_reports_exact(place: Place, spark: SparkSession, work: Batch, tmp_path: Path) -> None:
    """Some patched in one field, then the rest by all, then all of it again: the reports are those of a recomputation each time."""
    bad = tmp_path / "bad.csv"
    bad.write_bytes(EVERY_KIND_OF_ROW)
    file = read(bad, FileKind.PRODUCT, "2024-01-02")
    random = Random(131)
    place.send([*any_log(random, 700), *updates(random, 300, keys=60)])
    ingest(place, [file], chunk_bytes=1_000)
    stream = serve(place, spark)
    first = replay(place, reason="price", patch={"price": "7.77"})
    assert min(first) > 2
    assert replay(place, reason="price", patch={"price": "8.88"}).replayed == 0
    serve(place, spark, stream)
    assert_exact(place)
    assert {one["price"] for one in place.database.product.find({"price": {"$in": [7.77, 8.88]}})} == {7.77}

    second = replay(place, patch=EVERY_FIELD)
    assert second.replayed > 20
    serve(place, spark, stream)
    assert_exact(place)
    assert {one["reason"] for one in records(place) if one["status"] == "open"} == {"malformed"}
    verified = night(work)
    assert (named(verified), verified["reconciled"]) == ({}, 1), "a source counts once, however many events tell of it"

    # A run that was cut off before it marked anything: all is sent again, and nothing changes.
    marked, products = records(place), states(place)
    place.database.quarantine.update_many({}, {"$set": {"status": "open"}, "$unset": {"replayed": True}})
    assert replay(place, reason="price", patch={"price": "7.77"}) == first
    assert replay(place, patch=EVERY_FIELD) == second
    serve(place, spark, stream)
    assert_exact(place)
    assert states(place) == products
    again = records(place)
    assert [(one["_id"], one["status"]) for one in again] == [(one["_id"], one["status"]) for one in marked]
    ends = place.ends()
    ingest(place, [file], chunk_bytes=1_000)
    assert place.ends() == ends, "the file is ingested once"

    # A rebuild goes back before all of it; events and replays are served again, and the marks are there.
    work.rebuild(0)
    serve(place, spark)
    assert_exact(place)
    assert records(place) == again
    verified = night(work)
    assert (named(verified), verified["reconciled"]) == ({}, 0)
    assert records(place) == again
    accepted = place.database.report_ingestion.find_one({"name": "bad.csv"}) or {}
    rejected = [one for one in again if one["status"] != "replayed" and isinstance(one["source"], dict)]
    ours = [one for one in rejected if one["source"]["ingestion"] == accepted["ingestion"]]
    assert (accepted["accepted"], accepted["rejected"]) == (accepted["file_rows"] - len(ours), len(ours)) == (16, 3)


@pytest.mark.soak(proof="losses")
def test_replays_of_a_withdrawn_file(place: Place, spark: SparkSession, work: Batch, tmp_path: Path) -> None:
    """Withdrawn, its replays are rejected with it; taken back, what was replayed is so again."""
    bad = tmp_path / "bad.csv"
    bad.write_bytes(EVERY_KIND_OF_ROW)
    ingest(place, [read(bad, FileKind.PRODUCT, "2024-01-02")], chunk_bytes=1_000)
    stream = serve(place, spark)
    assert replay(place, patch=EVERY_FIELD).replayed >= 10
    serve(place, spark, stream)
    assert named(night(work)) == {}
    again = records(place)
    accepted = place.database.report_ingestion.find_one({"name": "bad.csv"}) or {}
    withdrawals.withdraw(place.database, accepted["ingestion"], "somebody", "", NAMES)
    with pytest.raises(OtherRules) as refused:
        replay(place)
    assert withdrawals.in_force(place.database, RULES).fingerprint() in str(refused.value)
    serve(place, spark)
    assert named(night(Batch(place.database, place.settings, spark))).keys() >= {"quarantine", "cell"}
    assert_exact(place)
    withdrawn = [one for one in records(place) if one["reason"] == "withdrawn"]
    assert {one["status"] for one in withdrawn} == {"discarded"}
    assert len(withdrawn) == accepted["file_rows"]
    withdrawals.reinstate(place.database, accepted["ingestion"], NAMES)
    serve(place, spark)
    assert "quarantine" in named(night(Batch(place.database, place.settings, spark)))
    assert_exact(place)
    assert [one for one in records(place) if one["status"] != "healed"] == again


@pytest.mark.soak(proof="losses")
def test_rules_change_after_a_replay(place: Place, spark: SparkSession, work: Batch, wording: Wording) -> None:
    """An original that is an observation after all, replays that are rejections after all, and one that stays as it was."""
    usual = {**EVERY_FIELD, "category_id": "7"}

    def product(asin: str, **fields: str) -> Event:
        return Event("ingest-product", 0, 0, 0, asin.encode(), json.dumps({**usual, "asin": asin, **fields}).encode())

    place.send([product("B0ACCEPTED", stars="5"), *(product(asin, price="n/a") for asin in ("B0REJECTED", "B0STAYS000", "B0OPEN0000"))])
    former = replace(RULES, edition=0, max_dollars=2_000_000, max_stars=4)
    stream = serve(place, spark, stream_of(place, spark, former))
    by_asin = {json.loads(one["raw"])["asin"]: one["_id"] for one in records(place)}

    def replay_one(asin: str, **patch: str) -> None:
        others = {"_id": {"$ne": by_asin[asin]}, "status": "open"}
        place.database.quarantine.update_many(others, {"$set": {"status": "healed"}})
        assert replay(place, former, patch=patch) == jobs.Sent(1, 0)
        place.database.quarantine.update_many({"status": "healed"}, {"$set": {"status": "open"}})

    replay_one("B0ACCEPTED", stars="3")
    replay_one("B0REJECTED", price="1500000")
    replay_one("B0STAYS000", price="5")
    serve(place, spark, stream)
    products = {one["_id"]: (one["stars"], one["price"]) for one in place.database.product.find()}
    assert products == {"B0ACCEPTED": (3, 12.34), "B0REJECTED": (3.5, 1_500_000), "B0STAYS000": (3.5, 5)}
    serve(place, spark)  # by the rules in force
    found = named(night(work))
    assert found["quarantine"].keys() == {by_asin["B0ACCEPTED"], by_asin["B0REJECTED"]}
    wording.check(found["quarantine"][by_asin["B0ACCEPTED"]], "an observation after all")
    wording.check(found["quarantine"][by_asin["B0REJECTED"]], "a rejection after all")
    assert_exact(place)
    status = {json.loads(one["raw"])["asin"]: one["status"] for one in records(place)}
    assert status == {"B0ACCEPTED": "healed", "B0REJECTED": "open", "B0STAYS000": "replayed", "B0OPEN0000": "open"}
    assert (place.database.product.find_one({"_id": "B0ACCEPTED"}) or {})["stars"] == 3, "of one moment what was told last"
    assert named(night(work)) == {}

    # It is open again, and is replayed again; so is what was made to look open.
    assert replay(place, patch={"price": "6"}) == jobs.Sent(2, 0)
    serve(place, spark)
    place.database.quarantine.update_one({"_id": by_asin["B0STAYS000"]}, {"$set": {"status": "open"}})
    found = named(night(work))
    assert {kind: [*those] for kind, those in found.items()} == {"quarantine": [by_asin["B0STAYS000"]]}
    wording.check(found["quarantine"][by_asin["B0STAYS000"]], "open")
    assert_exact(place)
    assert [one["status"] for one in records(place)].count("replayed") == 3
