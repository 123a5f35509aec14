"""Raw histories for the benchmarks of the batch layer: generated days go through Kafka and are landed as a night lands them."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice

from pyspark.sql import SparkSession
from support.places import Place

from bench.sides import place, print_line, session_of
from tidemark.catalog.marks import TideMark
from tidemark.catalog.rules import RULES
from tidemark.ingest.files import PRODUCT_COLUMNS, FileKind
from tidemark.ingest.generate import day_rows
from tidemark.ingest.produce import produce
from tidemark.ingest.records import Origin, messages
from tidemark.serving import ledger, offsets, publications
from tidemark.spark.lake import Lake
from tidemark.spark.land import land
from tidemark.spark.session import session

ROWS_PER_BATCH = 50_000
FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)


@contextmanager
def spark_and_place(name: str) -> Iterator[tuple[SparkSession, Place]]:
    """Servers, and the session of a batch job over many events."""
    with place() as here:
        spark = session(name, here.settings, memory=here.settings.batch_memory)
        try:
            yield spark, here
        finally:
            spark.stop()


def land_day(here: Place, spark: SparkSession, lake: Lake, rows: Iterable[Sequence[str]], number: int) -> TideMark:
    """Sends the rows of a day, lands them, and returns the mark that has been reached."""
    moment = FIRST_DAY + timedelta(days=number)
    origin = Origin(f"day-{number}", FileKind.PRODUCT, PRODUCT_COLUMNS, moment, moment)
    producer, started, rows, sent = here.producer(), time.monotonic(), iter(rows), 0
    while some := list(islice(rows, ROWS_PER_BATCH)):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(some)
        sent += produce(producer, here.settings.product_topic, messages(text.getvalue().encode(), sent << 20, origin), 60).events
    landing = time.monotonic()
    mark = land(spark, lake, ledger.read(here.database), here.settings)
    print_line(f"day {number}: {sent:,} events sent in {landing - started:.0f} s, landed in {time.monotonic() - landing:.0f} s")
    return mark


def days_landed(here: Place, spark: SparkSession, lake: Lake, products: int, numbers: Iterable[int]) -> TideMark:
    """Lands generated days of a catalog, one after the other."""
    mark = TideMark()
    for number in numbers:
        mark = land_day(here, spark, lake, day_rows(products, 1, number), number)
    return mark


def draft_at(here: Place, mark: TideMark) -> int:
    """A draft as a night cuts it whose stream has served all below that mark."""
    reached = {"offsets": offsets.to_documents(mark), "rules": RULES.fingerprint()}
    here.database.state.update_one({"_id": "ledger"}, {"$set": reached})
    return publications.cut(here.database, RULES.fingerprint()).number


def everything() -> list[int]:
    """This process and its JVM. Of the servers, which others keep, none works while raw events are read."""
    return session_of(os.getsid(0))
