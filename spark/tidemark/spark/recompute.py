"""Recomputation: the states and the cube of all events below a draft's mark, with the transforms of the stream.

*Incremental* starts from the served publication's states and adds the events landed since. *Full* starts from the raw history. Both give
the same result.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from enum import StrEnum

from pymongo.database import Database
from pyspark.sql import functions as F

from tidemark.catalog.marks import TideMark
from tidemark.catalog.rules import RULES, Rules
from tidemark.serving import cells, ledger, publications
from tidemark.serving.database import Document
from tidemark.serving.publications import Publication, Result, StaleDraft
from tidemark.settings import Settings
from tidemark.spark import transforms
from tidemark.spark.documents import cell_of, sums_of
from tidemark.spark.lake import Lake

log = logging.getLogger(__name__)

MAX_LAYERS = 8  # beyond this number, layers are merged into one


class Mode(StrEnum):
    AUTO = "auto"  # incremental, or full as often as the setting full_every says
    INCREMENTAL = "incremental"
    FULL = "full"


class NotLanded(Exception):
    """The raw history does not reach the mark."""


def recompute(
    lake: Lake, database: Database[Document], number: int, of: Settings, mode: Mode = Mode.AUTO, rules: Rules = RULES
) -> Publication:
    """Recomputes a draft, once. Raises NoPublication, NotLanded, TooManyCells, or StaleDraft if the rules have changed since the cut."""
    draft = publications.read(database, number)
    if draft.layers is not None:
        log.info("publication %d is already recomputed", number)
        return draft
    if draft.rules != rules.fingerprint():
        raise StaleDraft(
            f"publication {number} was cut under rules {draft.rules}, but rules {rules.fingerprint()} are in force: start again at cut"
        )
    binding = (draft.adoption or ledger.read(database)).binding
    if not (landed := lake.landed().mark).joined(binding.origin).reaches(draft.mark):
        raise NotLanded(f"the raw history reaches {landed}, but publication {number} needs {draft.mark}: run `land` first")
    base = _base(lake, database, draft, mode, of.full_every)
    start = base.mark if base else TideMark()
    log.info("publication %d at %s: %s", number, draft.mark, f"from publication {base.number}" if base else "from the raw history")
    with lake.tasks_for(binding.events_below(draft.mark)):
        layers = _layers(lake, base, start, draft.mark, of.category_topic, rules)
        # The newest moment of observation belongs to a product's state.
        cube = transforms.cube(lake.states(layers, *transforms.CUBED), rules, F.max("version.observed_at").alias("newest")).collect()
        result = Result(
            cells={cell_of(row): sums_of(row) for row in cube},
            layers=layers,
            since_full=base.since_full + 1 if base else 0,
            newest_event=_newest(_newest_event(lake, start, draft.mark), base.newest_event if base else None),
            newest_observation=_moment(max((row["newest"] for row in cube), default=None)),
        )
    cells.require_at_most(of.max_cells, len(result.cells), f"publication {number}")
    publications.complete(database, number, result)
    drop_unneeded(lake, database)
    return publications.read(database, number)


def _base(lake: Lake, database: Database[Document], draft: Publication, mode: Mode, full_every: int) -> Publication | None:
    """The publication to start from; None if everything must be recomputed from the raw history."""
    if draft.cut is None or mode is Mode.FULL:
        return None
    base = publications.read(database, draft.cut.served)
    if base.rules != draft.rules or base.layers is None or not draft.mark.reaches(base.mark):
        return None
    if mode is Mode.AUTO and base.since_full + 1 >= full_every:
        return None
    if not set(base.layers) <= lake.layers():
        log.warning("the state table lacks layers of publication %d: recomputing everything from the raw history", base.number)
        return None
    return base


def _layers(lake: Lake, base: Publication | None, start: TideMark, end: TideMark, category_topic: str, rules: Rules) -> tuple[str, ...]:
    """Writes a layer of the new events, or one of everything. Returns all layers."""
    kept = base.states() if base else ()
    if start == end:
        return kept
    rows = transforms.observed(lake.events(start, end), category_topic, rules)
    if len(kept) >= MAX_LAYERS:
        rows, kept = rows.unionByName(lake.states(kept)), ()
    layer = lake.write_layer(transforms.states(rows))
    return (*kept, *({layer} & lake.layers()))


def _newest_event(lake: Lake, start: TideMark, end: TideMark) -> datetime | None:
    """The Kafka timestamp of the newest event between two marks."""
    return _moment(lake.events(start, end).agg(F.max("timestamp")).collect()[0][0])


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _newest(*moments: datetime | None) -> datetime | None:
    return max((one for one in moments if one is not None), default=None)


def drop_unneeded(lake: Lake, database: Database[Document]) -> None:
    """Drops layers that no publication names. The layers are listed first, so that one written meanwhile is not among them."""
    there = lake.layers()
    named = {layer for one in publications.listing(database) for layer in one.layers or ()}
    lake.drop_layers(there - named)
