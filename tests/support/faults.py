"""The stream with a fault: `python faults.py POINT` runs it and ends it by kill -9 (itself and its JVM) at that point.

Points: products-written (and renamed, before the transaction), in-transaction (cells are added, offsets not committed), committed
(after the transaction). The first micro-batch that has products and names and is not the generation's first is the one it happens in.

`small-transactions` is no fault: a transaction changes few cells.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from tidemark.serving import ledger
from tidemark.spark import new_cells, speed


def end() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)


def at(point: str) -> None:
    commit = ledger.commit

    def is_later(batch: Any) -> bool:
        return batch.number > 0 and bool(batch.differences) and bool(batch.categories)

    def products_written(database: Any, generation: int, batch: Any) -> None:
        if is_later(batch):
            end()
        commit(database, generation, batch)

    def in_transaction(database: Any, generation: int, batch: Any) -> None:
        if is_later(batch):
            bulk_write = type(database.cube_cell).bulk_write

            def write_and_kill(*arguments: Any, **options: Any) -> Any:
                bulk_write(*arguments, **options)
                end()

            type(database.cube_cell).bulk_write = write_and_kill
        commit(database, generation, batch)

    def committed(database: Any, generation: int, batch: Any) -> None:
        commit(database, generation, batch)
        if is_later(batch):
            end()

    points: dict[str, Callable[..., None]] = {
        "products-written": products_written,
        "in-transaction": in_transaction,
        "committed": committed,
    }
    ledger.commit = points[point]


if __name__ == "__main__":
    if sys.argv[1] == "small-transactions":
        new_cells.MAX_CHANGES, new_cells.EVENTS_OF_A_SMALL_BATCH = 60, 30
    else:
        at(sys.argv[1])
    sys.exit(speed.main())
