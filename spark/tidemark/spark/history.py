"""History from the raw events: any range of days in one pass, by the transforms that the stream has.

What a product was on a day is its highest version among those observed by the day's end. So each product changes the cube only on
days on which it was observed, by its state then less its state before; summed up from the first day on, these changes are the days.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import date, datetime, timedelta

from pymongo.database import Database
from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from tidemark.catalog.cube import MEASURES, Cell
from tidemark.catalog.marks import TideMark
from tidemark.catalog.rules import DAY_MS, RULES, Rules
from tidemark.serving import history
from tidemark.serving.cells import Cells
from tidemark.serving.database import Document
from tidemark.serving.history import Put, Searched, days, end_of, start_of
from tidemark.settings import settings
from tidemark.spark import transforms
from tidemark.spark.documents import cell_of, sums_of
from tidemark.spark.lake import Lake, Landed

log = logging.getLogger(__name__)

_DIMENSIONS = ("category_id", "price_level", "isBestSeller")
_SUMMED = (*_DIMENSIONS, *MEASURES)


def compute(lake: Lake, database: Database[Document], first: date, last: date, rules: Rules = RULES) -> Counter[Put]:
    """Computes the days from the first to the last, both included; how many were written, and how many were not and why."""
    return _compute(lake, lake.landed(), database, {*days(first, last)}, rules)


def refresh(lake: Lake, database: Database[Document], last: date, rules: Rules = RULES) -> Counter[Put]:
    """Computes what is not as the raw history has it: days up to the last that are due and missing, and days that are held of other
    rules, or from before something landed that was observed by them; the last one in any case.
    """
    landed, fingerprint = lake.landed(), rules.fingerprint()
    before = history.searched(database, fingerprint)
    new = _observed(lake, before.landing, landed.landing, rules)
    observed = before.observed | new
    held = history.labels(database)
    stale = {last} | {
        day for day, label in held.items() if label.rules != fingerprint or label.landing < before.landing or (new and min(new) <= day)
    }
    done = _compute(lake, landed, database, stale | (history.due(held, observed, last) - held.keys()), rules)
    history.confirm(database, held.keys() - stale, landed.landing, fingerprint)
    history.remember(database, Searched(landed.landing, fingerprint, observed))
    return done


def _compute(lake: Lake, landed: Landed, database: Database[Document], wanted: Collection[date], rules: Rules) -> Counter[Put]:
    done: Counter[Put] = Counter()
    with lake.tasks_for(TideMark().behind(landed.mark)):
        for day, cells in _days(lake, landed, wanted, rules):
            put = history.put(database, day, landed.landing, rules.fingerprint(), cells)
            done[put] += 1
            log.info("%s: %d cells, %s", day, len(cells), put)
    return done


def _observed(lake: Lake, after: int, until: int, rules: Rules) -> frozenset[date]:
    """The days on which products were observed by events of the landings after one and up to another."""
    rows = transforms.observed(lake.landings(after, until), settings().category_topic, rules)
    number = F.floor(F.col("version.observed_at") / DAY_MS)
    found = rows.where(F.col("kind") == transforms.PRODUCT).select(number.alias("day")).distinct().collect()
    return frozenset(date(1970, 1, 1) + timedelta(days=row["day"]) for row in found)


def _days(lake: Lake, landed: Landed, wanted: Collection[date], rules: Rules) -> Iterator[tuple[date, Cells]]:
    """The cube of each of these days, in their order. A day whose cube is that of the day before is there like any other."""
    if not wanted:
        return
    first, last = min(wanted), max(wanted)
    changes = _changes(lake, landed, first, last, rules)
    # One task merges what is few by then: a global sort would run everything twice, to find out about the days first.
    rows = iter(changes.coalesce(1).sortWithinPartitions("day").toLocalIterator())
    cube: dict[Cell, list[int]] = {}
    row = next(rows, None)
    for day in sorted(wanted):
        while row is not None and row["day"] <= (day - first).days:
            _add(cube, row)
            row = next(rows, None)
        yield day, {cell: tuple(sums) for cell, sums in cube.items()}


def _add(cube: dict[Cell, list[int]], row: Row) -> None:
    """A cell whose sums have become 0 is no cell."""
    cell = cell_of(row)
    sums = [before + more for before, more in zip(cube.get(cell, [0] * len(MEASURES)), sums_of(row), strict=True)]
    if any(sums):
        cube[cell] = sums
    else:
        cube.pop(cell, None)


def _changes(lake: Lake, landed: Landed, first: date, last: date, rules: Rules) -> DataFrame:
    """How the sums of cells change from day to day: the day's number, the cell's dimensions, the measures.

    Day 0 is the first one, with all that was observed before it.
    """
    observed = transforms.observed(lake.events(TideMark(), landed.mark), settings().category_topic, rules).select(*transforms.CUBED)
    moment = F.col("version.observed_at")
    seen = observed.where((F.col("kind") == transforms.PRODUCT) & (moment < _milliseconds(end_of(last))))
    day = F.floor((moment - _milliseconds(start_of(first))) / DAY_MS)
    daily = transforms.newest(seen.withColumn("day", F.greatest(F.lit(0), day).cast("int")), "day")
    states = transforms.with_contributions(daily, rules)
    before = F.lag(F.struct(*_SUMMED)).over(Window.partitionBy("id").orderBy("day"))
    both = states.select("day", F.struct(*_SUMMED).alias("now"), before.alias("before"))
    change = F.array(F.col("now"), _taken_back("before"))
    changed = both.select("day", F.explode(change).alias("cell")).where(F.col("cell").isNotNull()).select("day", "cell.*")
    return changed.groupBy("day", *_DIMENSIONS).agg(*(F.sum(measure).alias(measure) for measure in MEASURES))


def _taken_back(name: str) -> Column:
    """A state with its measures negated; null where there is none."""
    state = F.col(name)
    dimensions = [state[one].alias(one) for one in _DIMENSIONS]
    return F.when(state.isNotNull(), F.struct(*dimensions, *((-state[measure]).alias(measure) for measure in MEASURES)))


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
