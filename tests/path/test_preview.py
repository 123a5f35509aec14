"""A preview against what then really happens when the same files are ingested."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from support.catalogs import EVERY_KIND_OF_ROW, ingest, read
from support.places import Place
from support.streams import Stream, stream, wait_until_served

from tidemark.ingest import jobs
from tidemark.ingest.files import FileKind
from tidemark.ingest.generate import write
from tidemark.ingest.newest import FIELDS
from tidemark.ingest.preview import preview
from tidemark.serving.database import Document

pytestmark = pytest.mark.servers


def previewed(place: Place, files: Sequence[jobs.File]) -> Document:
    """The preview, which has left everything as it was and is JSON."""
    before = place.ends(), place.database.ingestion.count_documents({})
    found = preview(place.database, files, 20_000, place.settings)
    assert (place.ends(), place.database.ingestion.count_documents({})) == before
    assert not place.settings.work.exists() or not list(place.settings.work.iterdir())
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def serve(place: Place, running: Stream, files: Sequence[jobs.File]) -> None:
    ingest(place, files, chunk_bytes=20_000)
    wait_until_served(place, running)


def states(place: Place) -> dict[str, tuple[Any, ...]]:
    return {one["_id"]: tuple(one[name] for name in FIELDS.values()) for one in place.database.product.find()}


def assert_served(place: Place, figures: Document, found: Document) -> None:
    """The figures of a preview, of everything and by category, are those of the reports."""
    (summary,) = place.database.report_summary.find()
    for name in ("products", "average_price", "average_stars", "discounted"):
        assert figures[name] == pytest.approx(summary[name], rel=1e-12), name
    for one in found["by_category"]:
        served = place.database.report_category.find_one({"category_id": one["category_id"]})
        assert served is not None
        assert one["category_name"] == served["category_name"]
        assert one["after"]["products"] == served["products"]
        assert one["after"]["average_price"] == pytest.approx(served["average_price"], rel=1e-12)


def test_a_preview_predicts_the_result_of_the_ingestion(place: Place, tmp_path: Path) -> None:
    categories, *days = write(1_200, 3, seed=5, out=tmp_path, first_day=date(2024, 1, 1))
    bad = tmp_path / "bad.csv"
    bad.write_bytes(EVERY_KIND_OF_ROW)
    renamed = tmp_path / "renamed.csv"
    renamed.write_bytes(re.sub(rb'\n2,("?)', rb"\n2,\1The new ", categories.read_bytes()) + b"9999,Added\n")
    day = {path: f"2024-01-0{number}" for number, path in enumerate(days, start=1)}
    with stream() as running:
        first = [read(categories, FileKind.CATEGORY, "2024-01-02"), read(days[1], FileKind.PRODUCT, day[days[1]])]
        of_nothing = previewed(place, first)
        assert (of_nothing["before"]["products"], of_nothing["shifts"]["products"]) == (0, None)
        serve(place, running, first)
        assert of_nothing["products"] == {"new": len(states(place)), "changed": 0, "unchanged": 0, "older": 0}
        assert of_nothing["categories"]["new"] == place.database.category.count_documents({})
        assert_served(place, of_nothing["after"], of_nothing)

        # A newer day with rows of every kind, and an older one told later; a category renamed and one more.
        second = [read(renamed, FileKind.CATEGORY, "2024-01-03")]
        second += [
            read(path, FileKind.PRODUCT, when) for path, when in ((days[2], day[days[2]]), (bad, "2024-01-03"), (days[0], day[days[0]]))
        ]
        found, before = previewed(place, second), states(place)
        rejected = place.database.quarantine.count_documents({})
        assert_served(place, found["before"], {"by_category": []})
        serve(place, running, second)
    after = states(place)
    observed = {one["_id"] for one in place.database.product.find({"date": {"$gte": datetime(2024, 1, 3, tzinfo=UTC)}})}
    assert found["products"]["new"] == len(after.keys() - before.keys()) > 0
    assert found["products"]["changed"] == sum(before[asin] != after[asin] for asin in before) > 100
    assert found["products"]["unchanged"] == sum(before[asin] == after[asin] for asin in before.keys() & observed)
    assert sum(found["products"].values()) == len(after), "the older day names no product that the others do not"
    assert found["categories"] == {"new": 1, "changed": 1, "unchanged": 247, "older": 0}
    assert_served(place, found["after"], found)
    assert found["events_behind"] in (0, None)

    quarantined = list(place.database.quarantine.find())
    assert sum(one["rows"] for one in found["rejected"]) == len(quarantined) - rejected > 15
    names = {one["_id"]: one["name"] for one in place.database.ingestion.find({"name": {"$ne": days[1].name}})}
    new = [one for one in quarantined if one["source"]["ingestion"] in names]
    assert {one["reason"]: one["rows"] for one in found["rejected"]} == Counter(one["reason"] for one in new)
    rows = {(names[one["source"]["ingestion"]], one["source"]["position"], one["reason"]) for one in new}
    examples = {(one["file"], one["byte"], kind["reason"]) for kind in found["rejected"] for one in kind["examples"]}
    assert examples <= rows
    assert {one["file"]: one["rejected"] for one in found["files"]}[str(bad)] == sum(
        names[one["source"]["ingestion"]] == "bad.csv" for one in new
    )

    again = previewed(place, second)
    assert (again["products"]["new"], again["products"]["changed"], again["before"]) == (0, 0, again["after"])
    assert all(one["ingested_before"] for one in again["files"])
