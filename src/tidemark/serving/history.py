"""History: the cube of everything observed before the end of each day (UTC), held whole or not at all.

A day's label in `history_day` says what its cells in `history` were made of: the landing that the raw history had come to, and the
rules. The newest landing wins, whoever writes last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from bson.int64 import Int64
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tidemark.catalog.cube import Cell
from tidemark.serving import cells as cube_cells
from tidemark.serving import offsets
from tidemark.serving.cells import Cells
from tidemark.serving.database import Document, in_transaction

HISTORY = "history"  # of `state`
# Of days on which nothing was observed: nights that were missed are made up for. A catalog of years ago must not become a
# thousand equal days, which anybody who wants them can still ask for.
_LONGEST_GAP_DAYS = 31


class NotOver(Exception):
    """The day has not ended, so nobody knows what will be observed on it."""


class NoDay(ValueError):
    """A run does not say which days it is about."""


class Label(NamedTuple):
    """What a day's cells are made of. `digest` is theirs, in hexadecimal."""

    landing: int
    rules: str
    digest: str


class Searched(NamedTuple):
    """Up to which landing the raw history has been searched, by those rules, for the days on which something was observed."""

    landing: int
    rules: str
    observed: frozenset[date]


class Put(StrEnum):
    """What has become of a day's cells."""

    WRITTEN = "written"
    SAME = "the same"  # as were there
    OLDER = "older"  # than those that are there, which stay


def asked(key: str | None, first: str | None, last: str | None, as_of: datetime, *, changed: bool) -> list[str]:
    """What a run is about, as words of the command `history`: the range that it names, else the day of its partition key (YYYY-MM-DD).
    `changed`: the last of these days, and every day before that has changed.

    Raises NoDay, NotOver for a day that had not ended at that moment.
    """
    first = first or last or key
    last = last or first
    if first is None or last is None:
        raise NoDay("a run by hand says which days: give the first and the last one, or a day as its partition key (YYYY-MM-DD)")
    if _day(last) < _day(first):
        raise NoDay(f"the last day, {last}, comes before the first, {first}")
    require_over(_day(last), as_of)
    return ["--changed-up-to", last] if changed else ["--first", first, "--last", last]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise NoDay(f"'{text}' is no day: write it as 2023-12-31") from None


def require_over(day: date, as_of: datetime) -> None:
    """Raises NotOver where the day had not ended at that moment."""
    if end_of(day) > as_of:
        raise NotOver(f"{day} has not ended: its history can be computed from {day + timedelta(days=1)} 00:00 UTC on")


def start_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def end_of(day: date) -> datetime:
    """The first moment after a day."""
    return start_of(day) + timedelta(days=1)


def days(first: date, last: date) -> Iterator[date]:
    """From the first to the last, both included; none where the last comes before."""
    return (first + timedelta(days=number) for number in range((last - first).days + 1))


def due(held: Collection[date], observed: Collection[date], last: date) -> set[date]:
    """Which days up to the last should be there: that one, those on which something was observed, and what lies between them and
    those that are held, where the gap is no longer than a month.
    """
    wanted = {last, *(day for day in observed if day <= last)}
    known = sorted(wanted | {day for day in held if day <= last})
    for before, after in pairwise(known):
        if (after - before).days - 1 <= _LONGEST_GAP_DAYS:
            wanted.update(days(before, after))
    return wanted


def is_empty(database: Database[Document]) -> bool:
    """Is it known that no event has ever come? Then no day is held either."""
    log_end = database.state.find_one({"_id": "log_end"})
    if log_end is None or any(offsets.from_documents(log_end["offsets"]).values()):
        return False
    return database.history_day.find_one() is None


def labels(database: Database[Document]) -> dict[date, Label]:
    """Of all days that are held."""
    return {one["_id"].date(): Label(one["landing"], one["rules"], one["digest"]) for one in database.history_day.find()}


def put(database: Database[Document], day: date, landing: int, rules: str, cells: Cells) -> Put:
    """Replaces a day's cells and its label in one transaction, unless they are those that are there, or older."""
    moment = start_of(day)
    documents = [_cell_document(moment, cell, sums) for cell, sums in cells.items()]
    label = Label(landing, rules, _digest(cells))

    def transaction(session: ClientSession) -> Put:
        held = database.history_day.find_one({"_id": moment}, session=session)
        if held is not None and held["landing"] > landing:
            return Put.OLDER
        # The label first: whoever writes the same day at the same time is in the way at once.
        told = [{"$replaceWith": {"_id": moment, **label._asdict(), "landing": Int64(landing), "computed_at": "$$NOW"}}]
        database.history_day.update_one({"_id": moment}, told, upsert=True, session=session)
        if held is not None and held["digest"] == label.digest:
            return Put.SAME
        database.history.delete_many({"day": moment}, session=session)
        for some in cube_cells.in_slices(documents):
            database.history.insert_many(some, ordered=False, session=session)
        return Put.WRITTEN

    return in_transaction(database, transaction)


def confirm(database: Database[Document], those: Iterable[date], landing: int, rules: str) -> None:
    """Says of days that nothing landed up to there changes them."""
    writes = [
        UpdateOne({"_id": start_of(day), "rules": rules, "landing": {"$lt": landing}}, {"$set": {"landing": Int64(landing)}})
        for day in those
    ]
    if writes:
        database.history_day.bulk_write(writes, ordered=False)


def searched(database: Database[Document], rules: str) -> Searched:
    """How far the raw history has been searched by these rules."""
    found = database.state.find_one({"_id": HISTORY, "rules": rules})
    if found is None:
        return Searched(0, rules, frozenset())
    return Searched(found["landing"], rules, frozenset(moment.date() for moment in found["observed"]))


def remember(database: Database[Document], now: Searched) -> None:
    """Keeps how far it has been searched. All days held are to be labelled so far before."""
    observed = [start_of(day) for day in sorted(now.observed)]
    database.state.update_one(
        {"_id": HISTORY}, {"$set": {"landing": Int64(now.landing), "rules": now.rules, "observed": observed}}, upsert=True
    )


def _cell_document(moment: datetime, cell: Cell, sums: Iterable[int]) -> Document:
    key = cube_cells.key(cell)
    return {"_id": {"day": moment, "cell": key}, "day": moment, "cell": key, **cube_cells.measures(sums)}


def _digest(cells: Cells) -> str:
    text = "\n".join(sorted(f"{tuple(cell)} {tuple(sums)}" for cell, sums in cells.items()))
    return hashlib.sha256(text.encode()).hexdigest()
