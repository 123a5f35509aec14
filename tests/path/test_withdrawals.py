"""A file is withdrawn, the right one told in its place, and the withdrawal taken back: each time all equals a recomputation."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from random import Random

import pytest
from pyspark.sql import SparkSession
from support import nights
from support.catalogs import EVERY_KIND_OF_ROW, ingest, read
from support.load import updates
from support.manual_stream import serve
from support.names import NAMES
from support.places import Place
from support.recompute import recompute
from support.wording import Wording

from tidemark.catalog.cube import MEASURES
from tidemark.catalog.rules import RULES
from tidemark.ingest.files import FileKind
from tidemark.ingest.generate import write
from tidemark.serving import history, withdrawals
from tidemark.serving.publications import OtherRules
from tidemark.spark.batch import Batch

pytestmark = pytest.mark.servers

LAST = date(2024, 1, 3)


def wrong_days(place: Place) -> list[str]:
    """What is wrong with the days of the history, against a recomputation of what was observed by the end of each."""
    log, wrong = place.log(), []
    withdrawn = place.database.ingestion.distinct("_id", {"withdrawn": {"$ne": None}})
    for day in history.labels(place.database):
        before = round(history.end_of(day).timestamp() * 1000)
        expected = recompute(log, place.settings.category_topic, before, withdrawn).cube
        found = {
            (one["category_id"], one["price_level"], one["is_best_seller"]): {name: one[name] for name in MEASURES}
            for one in place.database.report_history.find({"day": history.start_of(day)})
        }
        wrong += [] if found == expected else [f"{day}: {len(found)} cells, {len(expected)} expected"]
    return wrong


def night(place: Place, spark: SparkSession) -> dict[str, int]:
    """A nightly run and the history after a new start of the stream, as DAG withdraw makes them; differences by kind."""
    serve(place, spark)
    work = Batch(place.database, place.settings, spark)
    found = nights.night(work)
    work.history(None, None, LAST)
    return {kind: count for kind, count in found["counts"].items() if count}


def all_wrong(place: Place) -> list[str]:
    return place.wrong() + place.wrong_documents() + wrong_days(place)


@pytest.mark.soak(proof="losses")
def test_withdrawing_a_file_and_undoing_it_keep_reports_exact(place: Place, spark: SparkSession, tmp_path: Path, wording: Wording) -> None:
    categories, *days = write(60, 3, seed=5, out=tmp_path, first_day=date(2024, 1, 1))
    strange = tmp_path / "strange.csv"
    strange.write_bytes(EVERY_KIND_OF_ROW)
    ingest(place, [read(categories, FileKind.CATEGORY, "2024-01-01")], chunk_bytes=5_000)
    identities = [
        ingest(place, [read(path, FileKind.PRODUCT, f"2024-01-0{number}")], chunk_bytes=5_000)[0]
        for number, path in enumerate((*days[:2], strange, days[2]), start=1)
        if number < 4
    ]
    assert night(place, spark) == {}
    assert all_wrong(place) == []
    served = list(place.database.report_cube.find())
    _, wrong, strange_id = identities

    work = Batch(place.database, place.settings, spark)
    before = place.database.report_summary.find_one() or {}
    foreseen = work.impact(wrong, take_back=False)
    for identity in (wrong, strange_id):
        assert withdrawals.withdraw(place.database, identity, "somebody", "the wrong file", NAMES).by == "somebody"
    with pytest.raises(OtherRules) as refused:
        Batch(place.database, place.settings, spark).cut()
    assert all(rules.fingerprint() in str(refused.value) for rules in (RULES, withdrawals.in_force(place.database, RULES)))
    assert night(place, spark).keys() >= {"cell", "product", "quarantine"}
    assert all_wrong(place) == []
    after = place.database.report_summary.find_one() or {}
    assert (before["products"], after["products"]) != (0, 0)
    assert f"| {before['products']:,} | " in foreseen
    wording.check(foreseen)
    rows = {one["ingestion"]: one for one in place.database.report_ingestion.find()}
    assert (rows[wrong]["accepted"], rows[wrong]["rejected"]) == (0, rows[wrong]["file_rows"])
    assert rows[wrong]["withdrawn_at"] is not None
    assert place.database.quarantine.count_documents({"reason": "withdrawn", "status": {"$ne": "discarded"}}) == 0

    # The same file again is refused; as of the day that it is really of, it is another ingestion.
    with pytest.raises(withdrawals.Withdrawn) as known:
        ingest(place, [read(days[1], FileKind.PRODUCT, "2024-01-02")], chunk_bytes=5_000)
    assert all(value in str(known.value) for value in (days[1].name, wrong, "somebody"))
    ingest(place, [read(days[1], FileKind.PRODUCT, "2024-01-03")], chunk_bytes=5_000)
    # Events of it that come yet, as a chunk that is repeated brings them, are rejected at once.
    place.send([event for event in place.log() if event.ingestion == wrong][:20])
    place.send(updates(Random(3), 50, keys=20))
    assert night(place, spark) == {}
    assert all_wrong(place) == []

    for identity in (wrong, strange_id):
        withdrawals.reinstate(place.database, identity, NAMES)
        withdrawals.reinstate(place.database, identity, NAMES)
    assert night(place, spark) != {}
    assert all_wrong(place) == []
    assert place.database.quarantine.count_documents({"reason": "withdrawn", "status": {"$ne": "healed"}}) == 0
    assert place.database.quarantine.count_documents({"source.ingestion": strange_id, "status": "open"}) > 0
    rows = {one["ingestion"]: one for one in place.database.report_ingestion.find()}
    assert (rows[wrong]["rejected"], rows[wrong]["withdrawn_at"]) == (0, None)
    assert served != list(place.database.report_cube.find()), "the day told again is there as well"


@pytest.mark.soak(proof="losses")
def test_withdrawing_a_category_file_restores_former_names(place: Place, spark: SparkSession, tmp_path: Path) -> None:
    """Names go back to those told before, in products too."""
    names, others = tmp_path / "names.csv", tmp_path / "others.csv"
    names.write_text("id,category_name\n1,Bags\n2,Lamps\n")
    others.write_text("id,category_name\n1,Sgab\n3,Spmal\n")
    ingest(place, [read(names, FileKind.CATEGORY, "2024-01-01")], chunk_bytes=5_000)
    (wrong,) = ingest(place, [read(others, FileKind.CATEGORY, "2024-01-01")], chunk_bytes=5_000)
    place.send(updates(Random(4), 60, keys=20))
    assert night(place, spark) == {}
    withdrawals.withdraw(place.database, wrong, "somebody", "", NAMES)
    assert "category" in night(place, spark)
    assert all_wrong(place) == []
    assert {one["_id"]: one["category_name"] for one in place.database.category.find()} == {1: "Bags", 2: "Lamps"}
