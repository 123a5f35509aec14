"""Several views at one moment, while a stream moves cells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from pymongo.database import Database

from tidemark.catalog.cube import MEASURES, Cell
from tidemark.catalog.marks import TideMark
from tidemark.serving import ledger
from tidemark.serving.database import Document
from tidemark.serving.ledger import MicroBatch
from tidemark.serving.snapshot import snapshot

pytestmark = pytest.mark.servers

CELLS = 300
SNAPSHOTS, MOMENTS = 60, 15
MAX_READS = 600


@contextmanager
def moving(database: Database[Document]) -> Iterator[None]:
    """Products come to half of the cells at a time, in commits without a pause."""
    generation = ledger.start_generation(database, "rules", {}).generation
    ended = threading.Event()

    def run() -> None:
        number = 0
        while not ended.is_set():
            differences = {
                Cell(1 + cell % 7, 5 * (cell % 60), cell % 2 == 0): ((-1) ** (number + cell) + 1,) * len(MEASURES) for cell in range(CELLS)
            }
            ledger.commit(database, generation, MicroBatch(number, TideMark(), differences))
            number += 1

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            yield
        finally:
            ended.set()
        running.result()


def is_inconsistent(rows: Callable[[str], list[Document]]) -> bool:
    """Do two views speak of different moments?"""
    (summary,) = rows("report_summary")
    return bool(summary["products"] != sum(one["products"] for one in rows("report_cube")))


def test_plain_reads_can_be_inconsistent_and_snapshots_never(database: Database[Document]) -> None:
    with moving(database):
        assert any(is_inconsistent(lambda view: list(database[view].find())) for _ in range(MAX_READS)), (
            "nothing moves: the test shows nothing"
        )
        moments = set()
        for read in range(MAX_READS):
            with snapshot(database) as now:
                assert not is_inconsistent(now.rows)
                moments.add((now.one("report_summary") or {})["products"])
            if read >= SNAPSHOTS and len(moments) > MOMENTS:
                break
        assert len(moments) > MOMENTS, "nothing moves: the test shows nothing"
