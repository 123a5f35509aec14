"""Upkeep of the raw history: afterwards there is less, and all that is read is what it was."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from random import Random

import pytest
from pyspark.sql import SparkSession
from support.events import any_log
from support.lakes import landed, sent
from support.load import updates
from support.manual_stream import kafka, serve
from support.places import Place

from tidemark.serving import ledger, publications, verifications
from tidemark.serving.history import Put
from tidemark.spark import history
from tidemark.spark.batch import Batch
from tidemark.spark.lake import Lake
from tidemark.spark.land import land
from tidemark.spark.transforms import events

pytestmark = pytest.mark.servers

FIRST, LAST = date(2023, 10, 20), date(2023, 10, 31)


def files(place: Place, table: str) -> int:
    return len(list((Path(place.settings.lake_url) / table).rglob("part-*.parquet")))


@contextmanager
def as_after_a_week(place: Place, spark: SparkSession) -> Iterator[None]:
    """Whatever the newest versions do not need may go at once."""
    check = "spark.databricks.delta.retentionDurationCheck.enabled"
    for table in ("events", "states"):
        path = f"delta.`{place.settings.lake_url}/{table}`"
        spark.sql(f"ALTER TABLE {path} SET TBLPROPERTIES ('delta.deletedFileRetentionDuration' = 'interval 0 hours')")
    spark.conf.set(check, "false")
    try:
        yield
    finally:
        spark.conf.unset(check)


@pytest.mark.soak(proof="nights")
def test_maintenance_keeps_all_data_readable_and_unchanged(place: Place, spark: SparkSession) -> None:
    random, work = Random(131), Batch(place.database, place.settings, spark)
    for _ in range(2):
        place.send([*any_log(random, 60), *updates(random, 100, keys=40)])
        serve(place, spark)
        land(spark, work.lake, ledger.read(place.database), place.settings, most=15)
        work.nightly("incremental", "correct", 7)
    drafts = [work.cut() for _ in range(3)]
    days = partial(history.compute, work.lake, place.database, FIRST, LAST, place.settings.category_topic)
    assert days() == Counter({Put.WRITTEN: (LAST - FIRST).days + 1})
    before, layers, rows = work.lake.sizes(), work.lake.layers(), landed(work.lake)
    assert rows == sent(place)
    with as_after_a_week(place, spark):
        after = work.maintain(2)

    assert before["events"][0] > after["lake: events"].items == files(place, "events") == 1
    assert files(place, "states") == after["lake: states"].items
    assert [one.number for one in publications.listing(place.database)] == [*reversed(drafts[1:]), 2, 1, 0]
    assert work.lake.layers() == layers
    assert landed(work.lake) == rows
    assert days() == Counter({Put.SAME: (LAST - FIRST).days + 1})
    # Nothing is left to be done, and what comes later is landed, once.
    assert work.maintain(2) == after
    place.send(updates(random, 50, keys=40))
    serve(place, spark)
    work.nightly("full", "correct", 7)
    assert landed(work.lake) == sent(place)
    newest = publications.served(place.database)
    assert verifications.read(place.database, newest)["drift"] == 0
    assert place.wrong() == []
    # A rollback to what was kept.
    work.rebuild(1)
    assert place.wrong() == []
    serve(place, spark)
    assert place.wrong() == []
    assert place.wrong_documents() == []


def test_events_land_during_maintenance(place: Place, spark: SparkSession, lake: Lake) -> None:
    random = Random(132)
    place.send(updates(random, 60, keys=10))
    log = place.log()
    lake.append(events(kafka(spark, log[:10])), 1)
    ended, failures = threading.Event(), []

    def compact() -> None:
        try:
            while not ended.is_set():
                Lake(spark, place.settings.lake_url).compact()
        except BaseException as failure:
            failures.append(failure)

    compacting = threading.Thread(target=compact)
    compacting.start()
    try:
        for number in range(1, 6):
            lake.append(events(kafka(spark, log[number * 10 : number * 10 + 10])), number + 1)
    finally:
        ended.set()
        compacting.join()
    assert failures == []
    assert landed(lake) == sent(place)
    assert lake.landed().landing == 6
