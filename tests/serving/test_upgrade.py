"""A database in which the cube was kept in two parts shows the same reports, and no stream of that time goes on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from bson import Int64
from pymongo.database import Database
from support.states import name_categories

from tidemark.catalog.cube import MEASURES, Cell
from tidemark.catalog.marks import TideMark
from tidemark.serving import cells, ledger, schema
from tidemark.serving.database import Document
from tidemark.serving.ledger import Fenced, MicroBatch
from tidemark.serving.snapshot import snapshot

pytestmark = pytest.mark.servers

KEPT, MOVED, EMPTIED, NEW = Cell(7, 5, False), Cell(7, None, True), Cell(8, 300, False), Cell(9, 0, False)


def sums(products: int) -> dict[str, Int64]:
    return dict.fromkeys(MEASURES, Int64(products))


def former(database: Database[Document]) -> None:
    """Publication 2 is served; publication 1 is an older one."""
    for number, products in ((1, 99), (2, 3)):
        for cell in (KEPT, MOVED, EMPTIED):
            key = {"publication": number, "cell": cells.key(cell)}
            database.publication_cell.insert_one({"_id": key, **key, **sums(products)})
    database.speed_cell.insert_many({"_id": cells.key(cell), **sums(by)} for cell, by in ((MOVED, -1), (EMPTIED, -3), (NEW, 4)))
    database.state.update_one({"_id": "served"}, {"$set": {"publication": 2}})
    database.command("create", "served_cell", viewOn="speed_cell", pipeline=[])
    name_categories(database, {7: "Luggage"})


def served(database: Database[Document]) -> dict[Cell, int]:
    with snapshot(database) as now:
        return {cell: products for cell, (products, *_) in cells.read(now).items()}


def test_the_cube_is_put_together_once(database: Database[Document]) -> None:
    generation = ledger.start_generation(database, "r", {}).generation
    former(database)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(schema.prepare, database) for _ in range(2)]:
            done.result()
    expected = {KEPT: 3, MOVED: 2, NEW: 4}
    assert served(database) == expected
    assert {one["category_name"] for one in database.report_cube.find()} == {"Luggage", "Unknown category 9"}
    assert {"speed_cell", "served_cell"}.isdisjoint(database.list_collection_names())
    with pytest.raises(Fenced):
        ledger.commit(database, generation, MicroBatch(0, TideMark(), {KEPT: (1,) * len(MEASURES)}))
    schema.prepare(database)
    assert served(database) == expected


def test_one_that_was_cut_off_before_its_end_is_not_done_twice(database: Database[Document]) -> None:
    former(database)
    schema.prepare(database)
    database.speed_cell.insert_one({"_id": cells.key(NEW), **sums(4)})
    schema.prepare(database)
    assert served(database) == {KEPT: 3, MOVED: 2, NEW: 4}
    assert "speed_cell" not in database.list_collection_names()
