"""How long the history of many days takes in one pass, against its days one by one: `python -m bench.history`. Prints one line of JSON.

Ours is one computation of the whole range, theirs is our own of each of its days, in one process that is warm. Both must leave the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import date, timedelta

from support.places import Place

from bench.histories import FIRST_DAY, days_landed, everything, spark_and_place
from bench.sides import Measured, in_turns, measured, print_line, report
from tidemark.catalog.marks import TideMark
from tidemark.serving.history import days, labels
from tidemark.spark import history
from tidemark.spark.lake import Lake


class Range:
    """A range of days, computed again and again."""

    def __init__(self, lake: Lake, here: Place, first: date, last: date) -> None:
        self.lake, self.database, self.first, self.last = lake, here.database, first, last
        self.category_topic = here.settings.category_topic
        self.days = list(days(first, last))
        self.left: dict[str, dict[date, str]] = {}

    def at_once(self) -> Measured:
        return self._measured("in one pass", lambda: self._compute(self.first, self.last))

    def one_by_one(self) -> Measured:
        return self._measured("one by one", lambda: [self._compute(day, day) for day in self.days])

    def _compute(self, first: date, last: date) -> object:
        return history.compute(self.lake, self.database, first, last, self.category_topic)

    def _measured(self, how: str, act: Callable[[], object]) -> Measured:
        for held in (self.database.history_day, self.database.history):  # what is held as it would be is not written again
            held.delete_many({})
        found = measured(len(self.days), act, everything)
        print_line(f"{len(self.days)} days {how}: {len(self.days) / found.rate:.1f} s")
        self.left[how] = {day: label.digest for day, label in labels(self.database).items()}
        return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.history")
    parser.add_argument("--products", type=int, default=5_000, help="in each day's file")
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    first = FIRST_DAY.date()
    with spark_and_place("bench-history") as (spark, here):
        lake = Lake(spark, here.settings.lake_url)
        mark = days_landed(here, spark, lake, given.products, range(given.days))
        some = Range(lake, here, first, first + timedelta(days=given.days - 1))
        some.at_once()  # the first of a JVM compiles
        comparisons = {"one pass": in_turns(given.rounds, lambda _: some.at_once(), lambda _: some.one_by_one())}
        if some.left["in one pass"] != some.left["one by one"]:
            raise RuntimeError("one pass and single days differ")
        cells = here.database.history.count_documents({})
    report("history", "days/s", comparisons, events=TideMark().behind(mark), cells=cells)


if __name__ == "__main__":
    main()
