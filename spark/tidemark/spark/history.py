"""History from the raw events: any range of days in one pass, with the transforms of the stream.

A product's state on a day is its highest version observed by the end of that day. So a product changes the cube only on days on which it
was observed, by its new state minus its previous one. The running sum of these changes gives the cube of each day.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import date, datetime, timedelta
from math import inf

from pymongo.database import Database
from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from tidemark.catalog.cube import MEASURES, Cell
from tidemark.catalog.marks import TideMark
from tidemark.catalog.rules import DAY_MS, RULES, Rules
from tidemark.catalog.words import counted
from tidemark.serving import history, ledger
from tidemark.serving.cells import Cells, require_at_most
from tidemark.serving.database import Document
from tidemark.serving.history import Put, Searched, days, end_of, start_of
from tidemark.spark import transforms
from tidemark.spark.documents import cell_of, sums_of
from tidemark.spark.lake import Lake

log = logging.getLogger(__name__)

_DIMENSIONS = ("category_id", "price_level", "isBestSeller")
_SUMMED = (*_DIMENSIONS, *MEASURES)


class LostEvents(Exception):
    """The raw history lacks events that stored days were computed from."""


def compute(
    lake: Lake, database: Database[Document], first: date, last: date, category_topic: str, rules: Rules = RULES, max_cells: float = inf
) -> Counter[Put]:
    """Computes the days from the first to the last, both inclusive. Returns how many were written, and how many were not and why.

    Raises TooManyCells at a day with more than `max_cells`, or LostEvents.
    """
    return _compute(lake, lake.landed().mark, database, {*days(first, last)}, category_topic, rules, max_cells)


def refresh(
    lake: Lake,
    database: Database[Document],
    last: date,
    category_topic: str,
    rules: Rules = RULES,
    max_cells: float = inf,
    oldest: date | None = None,
) -> Counter[Put]:
    """Computes the days up to the last that are missing or outdated, and the last one in any case; none before `oldest`, if given. Raises
    what compute() raises.

    Missing are days that are due and not stored. Outdated are stored days computed under other rules, or before an event was landed
    that was observed by their end.
    """
    landed, fingerprint = lake.landed().mark, rules.fingerprint()
    before = history.searched(database, fingerprint)
    new = _observed(lake, before.mark, landed, category_topic, rules)
    observed = before.observed | new
    held = history.labels(database)
    stale = {last} | {
        day for day, label in held.items() if label.rules != fingerprint or not label.mark.reaches(before.mark) or (new and min(new) <= day)
    }
    wanted = {day for day in stale | (history.due_days(held, observed, last) - held.keys()) if oldest is None or day >= oldest}
    done = _compute(lake, landed, database, wanted, category_topic, rules, max_cells)
    history.confirm(database, {day: label for day, label in held.items() if day not in stale}, landed)
    history.remember(database, Searched(landed, fingerprint, observed))
    return done


def _compute(
    lake: Lake,
    landed: TideMark,
    database: Database[Document],
    wanted: Collection[date],
    category_topic: str,
    rules: Rules,
    max_cells: float,
) -> Counter[Put]:
    done: Counter[Put] = Counter()
    with lake.tasks_for(ledger.events_below(database, landed)):
        for day, cells in _days(lake, landed, wanted, category_topic, rules):
            require_at_most(max_cells, len(cells), f"the history of {day}")
            put = history.put(database, day, landed, rules.fingerprint(), cells)
            done[put] += 1
            log.info("%s: %s, %s", day, counted(len(cells), "cell"), put)
    if done[Put.OLDER]:
        _require_events(lake, database, wanted)
    return done


def _require_events(lake: Lake, database: Database[Document], wanted: Collection[date]) -> None:
    """Days stay as they are where they were computed from more events: by another run, or from events that are lost.

    Raises LostEvents.
    """
    landed, held = lake.landed().mark, history.labels(database)
    if beyond := [day for day in sorted(wanted) if day in held and not landed.reaches(held[day].mark)]:
        raise LostEvents(
            f"{counted(len(beyond), 'day')}, such as {beyond[0]}, were computed from events up to {held[beyond[0]].mark}, but the raw "
            f"history reaches {landed}: it has been lost, or is an older copy. These days have not been changed. Land what is missing "
            "(`python -m tidemark.spark.batch land`), then compute them again"
        )


def _observed(lake: Lake, start: TideMark, end: TideMark, category_topic: str, rules: Rules) -> frozenset[date]:
    """The days on which products were observed, in the events between two marks."""
    rows = transforms.observed(lake.events(start, end), category_topic, rules)
    number = F.floor(F.col("version.observed_at") / DAY_MS)
    found = rows.where(F.col("kind") == transforms.PRODUCT).select(number.alias("day")).distinct().collect()
    return frozenset(date(1970, 1, 1) + timedelta(days=row["day"]) for row in found)


def _days(lake: Lake, landed: TideMark, wanted: Collection[date], category_topic: str, rules: Rules) -> Iterator[tuple[date, Cells]]:
    """The cube of each of these days, in order. Days without changes are included."""
    if not wanted:
        return
    first, last = min(wanted), max(wanted)
    changes = _changes(lake, landed, first, last, category_topic, rules)
    # One task merges the few remaining rows: a global sort would run everything twice, to sample the days first.
    rows = iter(changes.coalesce(1).sortWithinPartitions("day").toLocalIterator())
    cube: dict[Cell, list[int]] = {}
    row = next(rows, None)
    for day in sorted(wanted):
        while row is not None and row["day"] <= (day - first).days:
            _add(cube, row)
            row = next(rows, None)
        yield day, {cell: tuple(sums) for cell, sums in cube.items()}


def _add(cube: dict[Cell, list[int]], row: Row) -> None:
    """Adds a change. A cell whose sums become 0 is dropped."""
    cell = cell_of(row)
    sums = [before + more for before, more in zip(cube.get(cell, [0] * len(MEASURES)), sums_of(row), strict=True)]
    if any(sums):
        cube[cell] = sums
    else:
        cube.pop(cell, None)


def _changes(lake: Lake, landed: TideMark, first: date, last: date, category_topic: str, rules: Rules) -> DataFrame:
    """The changes of the cells' sums from day to day: the day's number, the dimensions of the cell, the measures.

    Day 0 is the first one; it includes everything observed before it.
    """
    observed = transforms.observed(lake.events(TideMark(), landed), category_topic, rules).select(*transforms.CUBED)
    moment = F.col("version.observed_at")
    seen = observed.where((F.col("kind") == transforms.PRODUCT) & (moment < _milliseconds(end_of(last))))
    day = F.floor((moment - _milliseconds(start_of(first))) / DAY_MS)
    daily = transforms.newest(seen.withColumn("day", F.greatest(F.lit(0), day).cast("int")), "day")
    states = transforms.with_contributions(daily, rules)
    before = F.lag(F.struct(*_SUMMED)).over(Window.partitionBy("id").orderBy("day"))
    both = states.select("day", F.struct(*_SUMMED).alias("now"), before.alias("before"))
    change = F.array(F.col("now"), _negated("before"))
    changed = both.select("day", F.explode(change).alias("cell")).where(F.col("cell").isNotNull()).select("day", "cell.*")
    return changed.groupBy("day", *_DIMENSIONS).agg(*(F.sum(measure).alias(measure) for measure in MEASURES))


def _negated(name: str) -> Column:
    """A state with its measures negated; null if there is none."""
    state = F.col(name)
    dimensions = [state[one].alias(one) for one in _DIMENSIONS]
    return F.when(state.isNotNull(), F.struct(*dimensions, *((-state[measure]).alias(measure) for measure in MEASURES)))


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
