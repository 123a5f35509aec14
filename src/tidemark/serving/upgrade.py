"""Brings what an earlier version has stored otherwise to the form of this one, once."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection

from pymongo.client_session import ClientSession
from pymongo.database import Database

from tidemark.catalog.cube import Cell
from tidemark.serving import cells
from tidemark.serving.cells import Sums
from tidemark.serving.database import Document, in_transaction

log = logging.getLogger(__name__)

_SPEED_CELL = "speed_cell"
_FORMER_VIEWS = ("served_part", "served_cell")


def take_over_cube(database: Database[Document], present: Collection[str]) -> None:
    """Sums up the served cube where the served publication's cells and the stream's were kept apart.

    A stream of that version is fenced off by the same transaction. `present` are the names of the collections there are.
    """
    if _SPEED_CELL not in present:
        return

    def transaction(session: ClientSession) -> None:
        # The ledger first: whoever commits or takes over at the same time is in the way at once.
        database.state.update_one({"_id": "ledger"}, {"$inc": {"generation": 1}}, session=session)
        if database.cube_cell.find_one({}, session=session) is None:
            names = {one["_id"]: one["category_name"] for one in database.category.find(session=session)}
            cells.replace(database, session, _both(database, session), names)

    in_transaction(database, transaction)
    for name in (*_FORMER_VIEWS, _SPEED_CELL):
        database.drop_collection(name)
    log.info("the served cube has been put together from its two parts")


def _both(database: Database[Document], session: ClientSession) -> dict[Cell, Sums]:
    served = database.state.find_one({"_id": "served"}, session=session) or {"publication": 0}
    parts: dict[Cell, list[Sums]] = defaultdict(list)
    for one in database.publication_cell.find({"publication": served["publication"]}, session=session):
        parts[cells.of(one["cell"])].append(cells.sums_of(one))
    for one in database[_SPEED_CELL].find(session=session):
        parts[cells.of(one["_id"])].append(cells.sums_of(one))
    total = {cell: tuple(map(sum, zip(*sums, strict=True))) for cell, sums in parts.items()}
    return {cell: sums for cell, sums in total.items() if any(sums)}
