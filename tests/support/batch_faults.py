"""The batch layer with a fault: `python batch_faults.py POINT COMMAND ...` ends itself by kill -9, with its JVM, at that point.

Points name what has just happened: see POINTS.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pymongo.collection import Collection

from tidemark.serving import cells, lease, publications, rebuilds
from tidemark.settings import settings
from tidemark.spark import batch, land, rebuild, recompute, verify
from tidemark.spark.lake import Lake


def end(*_: Any, **__: Any) -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)


def before(owner: Any, name: str) -> None:
    setattr(owner, name, end)


def after(owner: Any, name: str, calls: int = 1) -> None:
    """Once it has been called that often."""
    act, called = getattr(owner, name), [0]

    def and_end(*arguments: Any, **options: Any) -> Any:
        answer = act(*arguments, **options)
        called[0] += 1
        if called[0] == calls:
            end()
        return answer

    setattr(owner, name, and_end)


def after_collection(method: str, name: str) -> None:
    """Once that method of that collection has been called, whatever transaction it is in."""
    act = getattr(Collection, method)

    def and_end(collection: Any, *arguments: Any, **options: Any) -> Any:
        answer = act(collection, *arguments, **options)
        if collection.name == name:
            end()
        return answer

    setattr(Collection, method, and_end)


def during_a_write(owner: Any, name: str) -> None:
    """Once it has begun to write a file of raw events, before the table names that."""
    act = getattr(owner, name)

    def watched(*arguments: Any, **options: Any) -> Any:
        folder = Path(settings().lake_url) / "events"
        before = set(folder.glob("part-*"))

        def watch() -> None:
            while set(folder.glob("part-*")) == before:
                time.sleep(0.001)
            end()

        threading.Thread(target=watch, daemon=True).start()
        return act(*arguments, **options)

    setattr(owner, name, watched)


def landed_a_part() -> None:
    land.land = partial(land.land, most=5)
    after(Lake, "append")


POINTS: dict[str, Callable[[], None]] = {
    "landed-a-part": landed_a_part,
    "cells-cut": lambda: after_collection("insert_many", "cut_cell"),
    "cut": lambda: after(publications, "cut"),
    "layer-written": lambda: after(Lake, "write_layer"),
    "cells-written": lambda: after_collection("bulk_write", "publication_cell"),
    "recomputed": lambda: after(recompute, "recompute"),
    "verified": lambda: after(verify, "verify"),
    "publish-in-transaction": lambda: before(publications, "stamp_published"),
    "published": lambda: after(publications, "publish"),
    "pruned": lambda: after(publications, "prune"),
    "rebuild-begun": lambda: after(rebuilds, "begin"),
    "products-removed": lambda: after(rebuild, "_count", 1),
    "products-written": lambda: after(rebuild, "_count", 2),
    "before-the-end": lambda: before(rebuilds, "end"),
    "end-in-transaction": lambda: after(cells, "apply"),
    "rebuilt": lambda: after(rebuilds, "end"),
    "compacting": lambda: during_a_write(Lake, "compact"),
    "compacted": lambda: after(Lake, "compact"),
}


if __name__ == "__main__":
    lease.VALID_SECONDS = 1  # nobody renews what was killed
    POINTS[sys.argv[1]]()
    sys.exit(batch.main(sys.argv[2:]))
