"""Recomputation: the states and the cube of all events below a draft's mark, by the transforms that the stream has.

*Incremental*: the served publication's states and the events landed since. *Full*: the raw history. Both give the same.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from enum import StrEnum

from pymongo.database import Database
from pyspark.sql import functions as F

from tidemark.catalog.marks import TideMark
from tidemark.catalog.rules import RULES, Rules
from tidemark.serving import publications
from tidemark.serving.database import Document
from tidemark.serving.publications import Publication, Result, StartAgain
from tidemark.settings import settings
from tidemark.spark import transforms
from tidemark.spark.documents import cell_of, sums_of
from tidemark.spark.lake import Lake

log = logging.getLogger(__name__)

MOST_LAYERS = 8  # more are written together as one


class Mode(StrEnum):
    AUTO = "auto"  # full where the setting full_every says so
    INCREMENTAL = "incremental"
    FULL = "full"


class NotLanded(Exception):
    """The raw history does not reach the mark."""


def recompute(lake: Lake, database: Database[Document], number: int, mode: Mode = Mode.AUTO, rules: Rules = RULES) -> Publication:
    """Recomputes a draft, once. Raises NoPublication, StartAgain where other rules are in force than at the cut, NotLanded."""
    draft = publications.read(database, number)
    if draft.layers is not None:
        log.info("publication %d has been recomputed before", number)
        return draft
    if draft.rules != rules.fingerprint():
        raise StartAgain(f"publication {number} was cut under rules {draft.rules}, in force are {rules.fingerprint()}: start again at cut")
    if not (landed := lake.landed().mark).reaches(draft.mark):
        raise NotLanded(f"the raw history reaches {landed}, publication {number} needs {draft.mark}: run `land` first")
    base = _base(lake, database, draft, mode)
    start = base.mark if base else TideMark()
    log.info("publication %d at %s: %s", number, draft.mark, f"from publication {base.number}" if base else "from the raw history")
    with lake.tasks_for(start.behind(draft.mark) + (TideMark().behind(start) if base else 0)):
        layers = _layers(lake, database, base, start, draft.mark, rules)
        # The newest moment of observation is that of some product's state.
        cube = transforms.cube(lake.states(layers, *transforms.CUBED), rules, F.max("version.observed_at").alias("newest")).collect()
        result = Result(
            cells={cell_of(row): sums_of(row) for row in cube},
            layers=layers,
            since_full=base.since_full + 1 if base else 0,
            newest_event=_newest(_newest_event(lake, start, draft.mark), base.newest_event if base else None),
            newest_observation=_moment(max((row["newest"] for row in cube), default=None)),
        )
    publications.complete(database, number, result)
    drop_unneeded(lake, database)
    return publications.read(database, number)


def _base(lake: Lake, database: Database[Document], draft: Publication, mode: Mode) -> Publication | None:
    """The publication to go on from; None where all is to be made of the raw history."""
    if draft.cut is None or mode is Mode.FULL:
        return None
    base = publications.read(database, draft.cut.served)
    if base.rules != draft.rules or base.layers is None or not draft.mark.reaches(base.mark):
        return None
    if mode is Mode.AUTO and base.since_full + 1 >= settings().full_every:
        return None
    if not set(base.layers) <= lake.layers():
        log.warning("the state table has lost layers of publication %d: all is made of the raw history", base.number)
        return None
    return base


def _layers(
    lake: Lake, database: Database[Document], base: Publication | None, start: TideMark, end: TideMark, rules: Rules
) -> tuple[int, ...]:
    """Writes a layer of what is new, or one of all. Its number is its attempt's own."""
    kept = base.states() if base else ()
    if start == end:
        return kept
    rows = transforms.observed(lake.events(start, end), settings().category_topic, rules)
    if len(kept) >= MOST_LAYERS:
        rows, kept = rows.unionByName(lake.states(kept)), ()
    layer = publications.next_layer(database)
    lake.write_layer(layer, transforms.states(rows))
    return (*kept, *({layer} & lake.layers()))


def _newest_event(lake: Lake, start: TideMark, end: TideMark) -> datetime | None:
    """Kafka's time of the newest event between two marks."""
    return _moment(lake.events(start, end).agg(F.max("timestamp")).collect()[0][0])


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _newest(*moments: datetime | None) -> datetime | None:
    return max((one for one in moments if one is not None), default=None)


def drop_unneeded(lake: Lake, database: Database[Document]) -> None:
    """Layers that no publication names. Asked for first: one that is written meanwhile is not among them."""
    there = lake.layers()
    named = {layer for one in publications.listing(database) for layer in one.layers or ()}
    lake.drop_layers(there - named)
