"""A drill of docs/operating.md, When something is lost: after the loss of each part, and of two, the reports become exact again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from itertools import combinations
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from support import broker
from support.catalogs import EVERY_KIND_OF_ROW, CsvFile, ingest, read, wrong_reports
from support.databases import emptied
from support.manual_stream import serve
from support.nights import named, night
from support.places import Place

from tidemark.ingest import jobs
from tidemark.ingest.files import FileKind
from tidemark.ingest.generate import write
from tidemark.serving.bindings import TopicsRecreated
from tidemark.spark.batch import Batch

pytestmark = pytest.mark.servers

FIRST = date(2024, 1, 1)


def lose_mongodb(place: Place) -> None:
    emptied(place.database)


def lose_kafka(place: Place) -> None:
    for topic in place.settings.topics:
        broker.recreate(topic)


def lose_raw_history(place: Place) -> None:
    shutil.rmtree(place.settings.lake_url)


ALONE: tuple[Callable[[Place], None], ...] = (lose_mongodb, lose_kafka, lose_raw_history)


class Installation:
    """Files that are ingested one after another, and the runbook."""

    def __init__(self, place: Place, spark: SparkSession, folder: Path) -> None:
        self.place, self._spark = place, spark
        categories, *days = write(150, 8, seed=7, out=folder, first_day=FIRST)
        bad = folder / "bad.csv"
        bad.write_bytes(EVERY_KIND_OF_ROW)
        dates = [FIRST + timedelta(days=number) for number in range(len(days) + 1)]
        self._days = [(path, day.isoformat()) for path, day in zip((*days, bad), dates, strict=True)]
        self._files = [read(categories, FileKind.CATEGORY, FIRST.isoformat())]
        self._expected = [CsvFile(categories, "category", FIRST.isoformat(), 0)]

    @property
    def work(self) -> Batch:
        return Batch(self.place.database, self.place.settings, self._spark)

    def ingest_another(self) -> None:
        path, day = self._days.pop(0)
        self._files.append(read(path, FileKind.PRODUCT, day))
        self._expected.append(CsvFile(path, "product", day, len(self._expected)))
        ingest(self.place, self._files[-1:] if len(self._files) > 2 else self._files, 4_000)

    def serve(self) -> None:
        serve(self.place, self._spark)

    def recover(self) -> None:
        """What docs/operating.md says: adopt, let the stream continue, ingest the files again, and run a night."""
        self.work.adopt()
        self.serve()
        ingest(self.place, self._files, 4_000)
        self.serve()
        assert named(night(self.work)) == {}

    def wrong(self) -> Sequence[str]:
        return wrong_reports(self.place.database, self._expected) + [
            f"chunk {one} is lost" for one in jobs.lost_chunks(self.place.database)
        ]


@pytest.mark.soak(proof="drill")
@pytest.mark.timeout(1800)
def test_after_each_loss_the_reports_become_exact_again(place: Place, spark: SparkSession, tmp_path: Path) -> None:
    installation = Installation(place, spark, tmp_path)
    installation.ingest_another()
    installation.serve()
    assert named(night(installation.work)) == {}
    for lost in (*((one,) for one in ALONE), *combinations(ALONE, 2)):
        installation.ingest_another()
        installation.serve()  # and lands nothing
        assert installation.wrong() == []
        for lose in lost:
            lose(place)
        if lose_kafka in lost and lose_mongodb not in lost:
            with pytest.raises(TopicsRecreated):
                installation.work.land()
        installation.recover()
        assert installation.wrong() == [], lost
