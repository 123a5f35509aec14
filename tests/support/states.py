"""What reports read, made by hand: publications, speed cells, categories, as stream and batch would leave them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import count

from bson.int64 import Int64
from pymongo.database import Database
from support.recompute import MEASURES, Cell

from catalog.events import Event
from catalog.marks import TideMark
from serving import offsets
from serving.database import Document
from serving.ledger import cell_key

Cube = Mapping[Cell, Mapping[str, int]]


def numbered(events: Iterable[Event]) -> list[Event]:
    """Events with an offset each, so that no two versions are the same."""
    return [event._replace(offset=offset) for event, offset in zip(events, count(), strict=False)]


def difference(a: Cube, b: Cube) -> dict[Cell, dict[str, int]]:
    """a - b, also where that is 0 or less."""
    nothing = dict.fromkeys(MEASURES, 0)
    return {cell: {measure: a.get(cell, nothing)[measure] - b.get(cell, nothing)[measure] for measure in MEASURES} for cell in {**a, **b}}


def publish(database: Database[Document], number: int, cube: Cube, *, mark: TideMark | None = None, at: datetime | None = None) -> None:
    """A publication, served."""
    database.publication.insert_one({"_id": number, "mark": offsets.to_documents(mark or TideMark()), "published_at": at, "rules": "r"})
    cells = [
        {"_id": {"publication": number, "cell": cell_key(cell)}, "publication": number, "cell": cell_key(cell), **_long(measures)}
        for cell, measures in cube.items()
    ]
    if cells:
        database.publication_cell.insert_many(cells)
    database.state.update_one({"_id": "served"}, {"$set": {"publication": number}})


def stream(database: Database[Document], cube: Cube) -> None:
    """Cells of the speed layer."""
    if cells := [{"_id": cell_key(cell), **_long(measures)} for cell, measures in cube.items()]:
        database.speed_cell.insert_many(cells)


def remember(database: Database[Document], day: datetime, cube: Cube) -> None:
    """A day of the history."""
    database.history.insert_many(
        {"_id": {"day": day, "cell": cell_key(cell)}, "day": day, "cell": cell_key(cell), **_long(measures)}
        for cell, measures in cube.items()
    )


def name_categories(database: Database[Document], names: Mapping[int, str]) -> None:
    version = {"told_at": 0, "position": 0, "partition": 0, "offset": 0}
    if names:
        database.category.insert_many(
            {"_id": number, "category_name": name, "_tide": {"version": version}} for number, name in names.items()
        )


def _long(measures: Mapping[str, int]) -> dict[str, Int64]:
    return {measure: Int64(measures[measure]) for measure in MEASURES}
