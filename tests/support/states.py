"""What reports read, made by hand: publications, the served cube, categories, as stream and batch would leave them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import count

from bson.int64 import Int64
from pymongo.client_session import ClientSession
from pymongo.database import Database
from support.recompute import MEASURES, Cell

from tidemark.catalog import cube
from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark
from tidemark.serving import cells, offsets
from tidemark.serving.database import Document, in_transaction

Cube = Mapping[Cell, Mapping[str, int]]


def numbered(events: Iterable[Event]) -> list[Event]:
    """Events with an offset each, so that no two versions are the same."""
    return [event._replace(offset=offset) for event, offset in zip(events, count(), strict=False)]


def difference(a: Cube, b: Cube) -> dict[Cell, dict[str, int]]:
    """a - b, also where that is 0 or less."""
    nothing = dict.fromkeys(MEASURES, 0)
    return {cell: {measure: a.get(cell, nothing)[measure] - b.get(cell, nothing)[measure] for measure in MEASURES} for cell in {**a, **b}}


def publish(database: Database[Document], number: int, *, mark: TideMark | None = None, at: datetime | None = None) -> None:
    """A publication, served."""
    database.publication.insert_one({"_id": number, "mark": offsets.to_documents(mark or TideMark()), "published_at": at, "rules": "r"})
    database.state.update_one({"_id": "served"}, {"$set": {"publication": number}})


def serve(database: Database[Document], added: Cube) -> None:
    """Adds these to the served cube, as a micro-batch does."""
    differences = {cube.Cell(*cell): tuple(measures[name] for name in MEASURES) for cell, measures in added.items()}
    in_transaction(database, lambda session: cells.add(database, session, differences))


def remember(database: Database[Document], day: datetime, cube: Cube) -> None:
    """A day of the history."""
    database.history.insert_many(
        {"_id": {"day": day, "cell": cells.key(cell)}, "day": day, "cell": cells.key(cell), **_long(measures)}
        for cell, measures in cube.items()
    )


def name_categories(database: Database[Document], names: Mapping[int, str]) -> None:
    version = {"registered_at": 0, "position": 0, "partition": 0, "offset": 0}

    def transaction(session: ClientSession) -> None:
        for number, name in names.items():
            document = {"category_name": name, "_tide": {"version": version}}
            database.category.replace_one({"_id": number}, document, upsert=True, session=session)
        cells.rename(database, session, names)

    in_transaction(database, transaction)


def _long(measures: Mapping[str, int]) -> dict[str, Int64]:
    return {measure: Int64(measures[measure]) for measure in MEASURES}
