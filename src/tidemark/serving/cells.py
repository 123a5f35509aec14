"""The served cube in MongoDB: one document per cell, with its sums and display names. It is updated in the ledger's transactions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from bson.int64 import Int64
from pymongo import DeleteMany, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tidemark.catalog.cube import MEASURES, Cell, label, unknown_category
from tidemark.catalog.words import counted
from tidemark.serving.database import Document
from tidemark.serving.snapshot import Snapshot

BATCH_SIZE = 5_000  # documents per command

Sums = tuple[int, ...]  # in the order of the measures of catalog.cube
Cells = Mapping[Cell, Sums]
Change = InsertOne[Document] | ReplaceOne[Document] | DeleteMany


class TooManyCells(Exception):
    """A cube has more cells than the settings allow: a person must decide."""


def key(cell: Iterable[Any]) -> Document:
    """A cell as a MongoDB key. The order of fields is part of the key."""
    return dict(zip(Cell._fields, cell, strict=True))


def of(document: Mapping[str, Any]) -> Cell:
    """The cell given by a document's fields."""
    return Cell(*(document[name] for name in Cell._fields))


def sums_of(document: Mapping[str, Any]) -> Sums:
    return tuple(document[measure] for measure in MEASURES)


def measures(sums: Iterable[int]) -> Document:
    """Sums as fields of a document."""
    return {measure: Int64(value) for measure, value in zip(MEASURES, sums, strict=True)}


def in_slices(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE))


def add(database: Database[Document], session: ClientSession, differences: Cells) -> None:
    """Adds sums to cells. A new cell gets the name that its category has within this transaction."""
    moved = {cell: sums for cell, sums in differences.items() if any(sums)}
    if not moved:
        return
    names = _names(database, session, {cell.category_id for cell in moved})
    updates = [
        UpdateOne({"_id": key(cell)}, {"$inc": measures(sums), "$setOnInsert": _shown(cell, names)}, upsert=True)
        for cell, sums in moved.items()
    ]
    database.cube_cell.bulk_write(updates, ordered=False, session=session)


def rename(database: Database[Document], session: ClientSession, names: Mapping[int, str]) -> None:
    """Sets the category name in the cells of categories (names by id)."""
    updates = [
        UpdateMany({"category_id": number, "category_name": {"$ne": name}}, {"$set": {"category_name": name}})
        for number, name in names.items()
    ]
    if updates:
        database.cube_cell.bulk_write(updates, ordered=False, session=session)


def require_at_most(limit: float, cells: int, what: str) -> None:
    """Raises TooManyCells if a cube has more cells than the limit. It is named in the error: publication 12."""
    if cells > limit:
        raise TooManyCells(
            f"{what} has {counted(cells, 'cell')}, more than TIDEMARK_MAX_CELLS allows ({limit:,.0f}): nothing has been changed. "
            "If a file is wrong, withdraw it. If it is right, raise TIDEMARK_MAX_CELLS, for which MongoDB needs 1 GB of cache for each "
            "50,000 cells. Then run this again"
        )


def changes(database: Database[Document], cells: Cells, names: Mapping[int, str]) -> list[Change]:
    """The writes that make these the served cube. They are right for as long as nobody changes its cells."""
    left = {of(one): one for one in database.cube_cell.find()}
    written: list[Change] = []
    for cell, sums in cells.items():
        if any(sums):
            there, wanted = left.pop(cell, None), {"_id": key(cell), **_shown(cell, names), **measures(sums)}
            if there is None:
                written.append(InsertOne(wanted))
            elif there != wanted:
                written.append(ReplaceOne({"_id": wanted["_id"]}, wanted, upsert=True))
    gone = [one["_id"] for one in left.values()]
    return written + [DeleteMany({"_id": {"$in": some}}) for some in in_slices(gone)]


def apply(database: Database[Document], session: ClientSession, those: Sequence[Change]) -> None:
    """Applies the result of changes()."""
    for some in in_slices(those):
        database.cube_cell.bulk_write(some, ordered=False, session=session)


def missing(database: Database[Document], cells: Collection[Cell]) -> set[Cell]:
    """Those of these cells that the served cube does not have."""
    there = set[Cell]()
    for some in in_slices([key(cell) for cell in cells]):
        there |= {of(one["_id"]) for one in database.cube_cell.find({"_id": {"$in": some}}, {"_id": True})}
    return {*cells} - there


def count(database: Database[Document], near: float) -> int:
    """How many cells the served cube has. Unless it may have more than `near`, its metadata say so, which is cheap.

    Near the number, empty cells are deleted before the others are counted.
    """
    if (about := database.cube_cell.estimated_document_count()) <= near:
        return about
    remove_empty(database)
    return database.cube_cell.count_documents({})


def remove_empty(database: Database[Document]) -> None:
    """Deletes the cells whose sums are all 0.

    A cell that a micro-batch changes at the same time is no longer empty when its turn comes, so this needs no transaction.
    """
    database.cube_cell.delete_many(dict.fromkeys(MEASURES, 0))


def read(now: Snapshot) -> dict[Cell, Sums]:
    """The served cube at the snapshot's moment."""
    found = now.stream("cube_cell", {"$project": dict.fromkeys((*Cell._fields, *MEASURES), True)})
    return {of(one): sums for one in found if any(sums := sums_of(one))}


def misnamed(now: Snapshot) -> Iterator[tuple[int, str]]:
    """Categories whose cells have another name than the category itself, with both names."""
    names = {one["_id"]: one["category_name"] for one in now.rows("category")}
    found = now.rows("cube_cell", {"$group": {"_id": {"category_id": "$category_id", "category_name": "$category_name"}}})
    for number, name in sorted((one["_id"]["category_id"], one["_id"]["category_name"]) for one in found):
        if name != (expected := names.get(number, unknown_category(number))):
            yield number, f"named '{name}' instead of '{expected}'"


def _names(database: Database[Document], session: ClientSession, categories: Collection[int]) -> dict[int, str]:
    found = database.category.find({"_id": {"$in": list(categories)}}, {"category_name": True}, session=session)
    return {one["_id"]: one["category_name"] for one in found}


def _shown(cell: Cell, names: Mapping[int, str]) -> Document:
    """A cell's dimensions, as they appear in reports."""
    number = cell.category_id
    return {**key(cell), "category_name": names.get(number, unknown_category(number)), "label": label(cell.price_level)}
