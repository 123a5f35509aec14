"""History: for each day (UTC), the cube of everything observed before its end. A day is stored whole or not at all.

A day's label in `history_day` records what its cells in `history` were computed from: the events of the raw history below a mark, and the
rules. The highest mark wins, whatever the order of writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple, cast

from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tidemark.catalog.cube import Cell
from tidemark.catalog.marks import TideMark
from tidemark.serving import cells as cube_cells
from tidemark.serving import offsets
from tidemark.serving.cells import Cells
from tidemark.serving.database import Document, in_transaction
from tidemark.serving.documents import LogEndDocument

HISTORY = "history"  # document of collection `state`
# Days without observations are filled in up to this gap, so that missed nights are made up for. A catalog from years ago must not become
# a thousand equal days; request such a range explicitly.
_LONGEST_GAP_DAYS = 31


class DayNotEnded(Exception):
    """The day has not ended, so more may be observed on it."""


class InvalidDays(ValueError):
    """The days that a run should compute are missing or invalid."""


class Label(NamedTuple):
    """What a day's cells were computed from: the events below a mark. `digest` is the hexadecimal digest of the cells."""

    mark: TideMark
    rules: str
    digest: str


class Searched(NamedTuple):
    """The mark up to which the raw history has been searched, under these rules, for days with observations; and those days."""

    mark: TideMark
    rules: str
    observed: frozenset[date]


class Put(StrEnum):
    """What happened to a day's cells."""

    WRITTEN = "written"
    SAME = "the same"  # equal to the stored ones
    OLDER = "older"  # than the stored ones, which stay


def selected_days(key: str | None, first: str | None, last: str | None, as_of: datetime, *, changed: bool) -> list[str]:
    """The arguments of the command `history` for a run: the range that it names, else the day of its partition key (YYYY-MM-DD).
    `changed`: the last of these days, and every earlier day that has changed.

    Raises InvalidDays, or DayNotEnded for a day that had not ended at the moment `as_of`.
    """
    first = first or last or key
    last = last or first
    if first is None or last is None:
        raise InvalidDays("the run names no days: give the first and the last day, or one day as its partition key (YYYY-MM-DD)")
    if _day(last) < _day(first):
        raise InvalidDays(f"the last day, {last}, is before the first day, {first}")
    require_over(_day(last), as_of)
    return ["--changed-up-to", last] if changed else ["--first", first, "--last", last]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidDays(f"'{text}' is not a valid day: write it as 2023-12-31") from None


def require_over(day: date, as_of: datetime) -> None:
    """Raises DayNotEnded if the day had not ended at the moment `as_of`."""
    if end_of(day) > as_of:
        raise DayNotEnded(f"{day} has not ended: its history can be computed after {day + timedelta(days=1)} 00:00 UTC")


def start_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def end_of(day: date) -> datetime:
    """The first moment after a day."""
    return start_of(day) + timedelta(days=1)


def days(first: date, last: date) -> Iterator[date]:
    """The days from the first to the last, both inclusive; none if the last is before the first."""
    return (first + timedelta(days=number) for number in range((last - first).days + 1))


def due_days(held: Collection[date], observed: Collection[date], last: date) -> set[date]:
    """The days up to the last that should be stored: the last, the days with observations, and the days in gaps of at most a month between
    these and the stored days.
    """
    wanted = {last, *(day for day in observed if day <= last)}
    known = sorted(wanted | {day for day in held if day <= last})
    for before, after in pairwise(known):
        if (after - before).days - 1 <= _LONGEST_GAP_DAYS:
            wanted.update(days(before, after))
    return wanted


def is_empty(database: Database[Document]) -> bool:
    """Is it known that the log has never held an event? Then no day is stored either."""
    log_end = database.state.find_one({"_id": "log_end"})
    if log_end is None or any(offsets.from_documents(cast(LogEndDocument, log_end)["offsets"]).values()):
        return False
    return database.history_day.find_one() is None


def labels(database: Database[Document]) -> dict[date, Label]:
    """The labels of all stored days."""
    return {
        one["_id"].date(): Label(offsets.from_documents(one["mark"]), one["rules"], one["digest"]) for one in database.history_day.find()
    }


def put(database: Database[Document], day: date, mark: TideMark, rules: str, cells: Cells) -> Put:
    """Replaces a day's cells and label in one transaction, unless the cells are equal to the stored ones, or older."""
    moment = start_of(day)
    documents = [_cell_document(moment, cell, sums) for cell, sums in cells.items()]
    digest = _digest(cells)

    def transaction(session: ClientSession) -> Put:
        held = database.history_day.find_one({"_id": moment}, session=session)
        if held is not None and not mark.reaches(offsets.from_documents(held["mark"])):
            return Put.OLDER
        # The label first, so that a concurrent write of the same day conflicts at once.
        label = {"_id": moment, "mark": {"$literal": offsets.to_documents(mark)}, "rules": rules, "digest": digest, "computed_at": "$$NOW"}
        database.history_day.update_one({"_id": moment}, [{"$replaceWith": label}], upsert=True, session=session)
        if held is not None and held["digest"] == digest:
            return Put.SAME
        database.history.delete_many({"day": moment}, session=session)
        for some in cube_cells.in_slices(documents):
            database.history.insert_many(some, ordered=False, session=session)
        return Put.WRITTEN

    return in_transaction(database, transaction)


def invalidate(database: Database[Document], session: ClientSession) -> None:
    """Forgets what the stored days were computed from, so that all are computed again. Until then they stay as they are."""
    database.history_day.update_many({}, {"$set": {"mark": [], "rules": ""}}, session=session)
    database.state.delete_one({"_id": HISTORY}, session=session)


def confirm(database: Database[Document], those: Mapping[date, Label], mark: TideMark) -> None:
    """Records for days with these labels that no event below the mark changes them. A label that has changed since stays."""
    writes = [
        UpdateOne(
            {"_id": start_of(day), "rules": label.rules, "mark": offsets.to_documents(label.mark)},
            {"$set": {"mark": offsets.to_documents(mark)}},
        )
        for day, label in those.items()
    ]
    if writes:
        database.history_day.bulk_write(writes, ordered=False)


def searched(database: Database[Document], rules: str) -> Searched:
    """How far the raw history has been searched under these rules."""
    found = database.state.find_one({"_id": HISTORY, "rules": rules})
    if found is None:
        return Searched(TideMark(), rules, frozenset())
    return Searched(offsets.from_documents(found["mark"]), rules, frozenset(moment.date() for moment in found["observed"]))


def remember(database: Database[Document], now: Searched) -> None:
    """Stores how far the raw history has been searched. The labels of all stored days must be brought to that mark before."""
    observed = [start_of(day) for day in sorted(now.observed)]
    database.state.update_one(
        {"_id": HISTORY}, {"$set": {"mark": offsets.to_documents(now.mark), "rules": now.rules, "observed": observed}}, upsert=True
    )


def _cell_document(moment: datetime, cell: Cell, sums: Iterable[int]) -> Document:
    key = cube_cells.key(cell)
    return {"_id": {"day": moment, "cell": key}, "day": moment, "cell": key, **cube_cells.measures(sums)}


def _digest(cells: Cells) -> str:
    text = "\n".join(sorted(f"{tuple(cell)} {tuple(sums)}" for cell, sums in cells.items()))
    return hashlib.sha256(text.encode()).hexdigest()
