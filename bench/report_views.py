"""How long the live report views take to answer: `python -m bench.report_views`. Prints one line of JSON.

Ours are the views that every reader asks, worked out at each question from the served cube. They are held against a limit in seconds; a
round is a number of questions by one reader, one after the other, each read to its last row.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from itertools import chain
from random import Random

from pymongo.collection import Collection
from pymongo.database import Database
from support.states import name_categories, serve

from bench.sides import against_limit, p95, place, query_seconds, report
from tidemark.catalog.cube import MEASURES
from tidemark.serving.database import Document

VIEWS = ("report_cube", "report_category", "report_price_level", "report_summary")
LIMIT_SECONDS = 0.1  # of the 95th of a hundred
CATEGORIES, LEVELS = 248, 61


def fill(database: Database[Document], cells: int, random: Random) -> None:
    """A served cube of so many cells."""
    all_cells = [
        (category, level, best)
        for category in range(1, CATEGORIES + 1)
        for level in (None, *range(0, (LEVELS - 1) * 5, 5))
        for best in (False, True)
    ]
    there = random.sample(all_cells, cells)
    serve(database, {cell: dict.fromkeys(MEASURES, random.randrange(100, 1_000)) for cell in there})
    name_categories(database, {number: f"Category {number}" for number in range(1, CATEGORIES + 1)})


def read(view: Collection[Document]) -> None:
    if not view.find(batch_size=20_000).to_list():
        raise RuntimeError(f"{view.name} is empty")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report_views")
    parser.add_argument("--cells", type=int, default=15_000)
    parser.add_argument("--times", type=int, default=100, help="questions of a round")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    seconds: dict[str, list[list[float]]] = {view: [] for view in VIEWS}
    with place() as here:
        fill(here.database, given.cells, Random(1))
        for view in VIEWS:
            query_seconds(partial(read, here.database[view]), 10)
        for _ in range(given.rounds):
            for view in VIEWS:
                seconds[view].append(query_seconds(partial(read, here.database[view]), given.times))
    comparisons = {f"{view} p95": against_limit(LIMIT_SECONDS, [p95(one) for one in rounds]) for view, rounds in seconds.items()}
    report(
        "report_views",
        "seconds",
        comparisons,
        cells=given.cells,
        p50={view: round(statistics.median(chain.from_iterable(rounds)), 4) for view, rounds in seconds.items()},
    )


if __name__ == "__main__":
    main()
