"""A database, a raw history or the beginning of the log is lost or older than the others: no number is wrong, and one command goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from random import Random

import pytest
from pyspark.sql import SparkSession
from support import broker
from support.databases import emptied
from support.events import any_log
from support.load import updates
from support.manual_stream import serve, stream_of
from support.nights import named, night
from support.places import Place
from support.recompute import differences, recompute, reports
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.serving import backup, history, ledger, schema
from tidemark.serving.ledger import Fenced
from tidemark.serving.snapshot import snapshot
from tidemark.spark.batch import Batch
from tidemark.spark.history import LostEvents
from tidemark.spark.land import ForeignLake
from tidemark.spark.log import MissingOffsets

pytestmark = pytest.mark.servers


def send(place: Place, seed: int, count: int = 120) -> None:
    random = Random(seed)
    place.send([*any_log(random, count // 3), *updates(random, count, keys=40)])


def all_wrong(place: Place) -> list[str]:
    return place.wrong() + place.wrong_documents()


def wrong_by(place: Place, log: Iterable[Event]) -> list[str]:
    """What is wrong with the reports, against a recomputation from these events instead of those that the log still has."""
    expected = reports(recompute(log, place.settings.category_topic))
    with snapshot(place.database) as now:
        served = {view: now.rows(view) for view in expected if view in ("report_cube", "report_category", "report_summary")}
    return [line for view, rows in served.items() for line in differences(view, expected[view], rows)]


def without_tables(saved: Path) -> None:
    """Makes a backup like that of an installation whose raw history has a store of its own."""
    shutil.rmtree(saved / backup.LAKE)
    manifest = json.loads((saved / backup.MANIFEST).read_text())
    manifest["files"] = {name: digest for name, digest in manifest["files"].items() if not name.startswith(backup.LAKE)}
    (saved / backup.MANIFEST).write_text(json.dumps(manifest))


def test_recovery_from_a_lost_mongodb(place: Place, spark: SparkSession, work: Batch, wording: Wording) -> None:
    """The stream serves the log again by itself. The raw history is another database's, until it is adopted."""
    send(place, 1)
    serve(place, spark)
    night(work)
    owner = ledger.read(place.database).identity
    emptied(place.database)
    send(place, 2)
    serve(place, spark)
    work = Batch(place.database, place.settings, spark)
    with pytest.raises(ForeignLake) as refused:
        night(work)
    wording.check(str(refused.value), owner=owner, own=ledger.read(place.database).identity, lake=place.settings.lake_url)
    assert place.wrong() == []
    number = work.adopt()["publication"]
    assert (place.wrong(), number) == ([], 1)
    send(place, 3)
    serve(place, spark)
    assert named(night(work)) == {}
    assert all_wrong(place) == []


@pytest.mark.soak(proof="losses")
def test_two_databases_cannot_share_a_raw_history(place: Place, spark: SparkSession, work: Batch) -> None:
    send(place, 4)
    serve(place, spark)
    night(work)
    other = place.database.client[f"{place.database.name}_other"]
    schema.prepare(other)
    try:
        with pytest.raises(ForeignLake):
            Batch(other, place.settings, spark).land()
    finally:
        place.database.client.drop_database(other.name)
    assert named(night(work)) == {}


@pytest.mark.soak(proof="losses")
def test_a_backup_is_restored_beside_a_newer_raw_history(place: Place, spark: SparkSession, work: Batch, tmp_path: Path) -> None:
    send(place, 5)
    serve(place, spark)
    night(work)
    backup.save(place.database, place.settings.lake_url, tmp_path / "saved")
    without_tables(tmp_path / "saved")
    send(place, 6)
    former = serve(place, spark)
    night(work)
    emptied(place.database)
    backup.restore(place.database, place.settings.lake_url, tmp_path / "saved")
    assert ledger.read(place.database).generation > former.generation

    send(place, 7)
    with pytest.raises(Fenced):
        former.run(former.next(place.log(), 1_000))
    serve(place, spark)
    assert all_wrong(place) == []
    work = Batch(place.database, place.settings, spark)
    with pytest.raises(ForeignLake):
        night(work)
    work.adopt()
    serve(place, spark)
    assert named(night(work)) == {}
    assert all_wrong(place) == []


@pytest.mark.soak(proof="losses")
def test_adoption_when_only_the_raw_history_reaches_back(place: Place, spark: SparkSession, work: Batch) -> None:
    send(place, 8)
    serve(place, spark)
    night(work)
    send(place, 9)
    work.land()
    log, ends, served = place.log(), place.ends(), ledger.read(place.database).offsets
    for key, end in ends.items():
        if end > served[key] + 1:
            broker.forget(*key, below=end - 1)
    with pytest.raises(MissingOffsets):
        work.rebuild(1)
    number = work.adopt()["publication"]
    assert ledger.read(place.database).offsets == ends
    assert wrong_by(place, log) == []
    stream = stream_of(place, spark)
    assert stream.batches.offsets == ends
    assert named(night(work)) == {}
    assert number == 2


@pytest.mark.soak(proof="losses")
def test_recovery_from_a_lost_raw_history(place: Place, spark: SparkSession, work: Batch) -> None:
    """It is landed again, and the days computed from the former one stay right."""
    days = date(2024, 1, 1), date(2024, 1, 3)
    send(place, 10)
    serve(place, spark)
    night(work)
    work.history(*days, None)
    shutil.rmtree(place.settings.lake_url)
    send(place, 11)
    serve(place, spark)
    work = Batch(place.database, place.settings, spark)
    with pytest.raises(LostEvents):
        work.history(*days, None)
    assert named(night(work)) == {}
    assert all_wrong(place) == []
    work.history(*days, None)
    assert {label.mark for label in history.labels(place.database).values()} == {place.ends()}
