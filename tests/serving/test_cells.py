"""Cells bear the names that their categories have, whichever of them comes first."""

from __future__ import annotations

import pytest
from pymongo.database import Database
from support.states import name_categories
from support.wording import Wording

from tidemark.catalog.cube import MEASURES, Cell
from tidemark.catalog.marks import TideMark
from tidemark.catalog.versions import CategoryVersion
from tidemark.serving import cells, ledger
from tidemark.serving.cells import Cells, TooManyCells
from tidemark.serving.database import Document, in_transaction
from tidemark.serving.ledger import Category, MicroBatch
from tidemark.serving.snapshot import snapshot

pytestmark = pytest.mark.servers

ONE, TWO = (1,) * len(MEASURES), (2,) * len(MEASURES)
CHEAP, UNPRICED, OTHER = Cell(7, 5, False), Cell(7, None, True), Cell(8, 300, False)


def names(database: Database[Document]) -> dict[Cell, tuple[str, str]]:
    return {cells.of(one): (one["category_name"], one["label"]) for one in database.cube_cell.find()}


def misnamed(database: Database[Document]) -> list[tuple[int, str]]:
    with snapshot(database) as now:
        return list(cells.misnamed(now))


def commits(database: Database[Document], *batches: tuple[Cells, dict[int, str]]) -> None:
    generation = ledger.start_generation(database, "r", {}).generation
    for number, (differences, renamed) in enumerate(batches):
        categories = {of: Category(name, CategoryVersion(number, 0, 0, 0)) for of, name in renamed.items()}
        ledger.commit(database, generation, MicroBatch(number, TideMark(), differences, categories))


def test_a_cell_gets_the_name_of_its_category_whenever_either_changes(database: Database[Document]) -> None:
    commits(database, ({CHEAP: ONE, OTHER: ONE}, {}))
    assert names(database) == {CHEAP: ("Unknown category 7", "$5-10"), OTHER: ("Unknown category 8", "$300+")}
    commits(database, ({UNPRICED: ONE}, {7: "Luggage"}), ({}, {9: "Toys"}))
    assert names(database) == {CHEAP: ("Luggage", "$5-10"), UNPRICED: ("Luggage", "unknown"), OTHER: ("Unknown category 8", "$300+")}
    commits(database, ({CHEAP: ONE, Cell(9, 0, False): ONE}, {}), ({}, {7: "Bags"}))
    assert {name for name, _ in names(database).values()} == {"Bags", "Unknown category 8", "Toys"}
    assert misnamed(database) == []


def test_a_cell_with_another_name_than_its_category_is_detected(database: Database[Document], wording: Wording) -> None:
    name_categories(database, {7: "Luggage"})
    commits(database, ({CHEAP: ONE, UNPRICED: ONE, OTHER: ONE}, {}))
    database.cube_cell.update_one({"_id": cells.key(CHEAP)}, {"$set": {"category_name": "made up"}})
    database.category.insert_one({"_id": 8, "category_name": "Toys", "_tide": {"version": CategoryVersion(1, 0, 0, 0)._asdict()}})
    found = misnamed(database)
    assert [category for category, _ in found] == [7, 8]
    wording.check("\n".join(how for _, how in found))


def served(database: Database[Document]) -> dict[Cell, tuple[int, ...]]:
    with snapshot(database) as now:
        return cells.read(now)


def test_a_cube_takes_the_place_of_another(database: Database[Document]) -> None:
    nothing = dict.fromkeys([Cell(9, 0, False)], (0,) * len(MEASURES))
    commits(database, ({CHEAP: ONE, OTHER: ONE}, {7: "Luggage"}))
    new = {UNPRICED: ONE, OTHER: TWO, **nothing}
    changes = cells.changes(database, new, {8: "Toys"})
    assert len(changes) == 3, "one is new, one has changed, one is gone"
    in_transaction(database, lambda session: cells.apply(database, session, changes))
    assert names(database) == {UNPRICED: ("Unknown category 7", "unknown"), OTHER: ("Toys", "$300+")}
    assert served(database) == {UNPRICED: ONE, OTHER: TWO}
    assert cells.changes(database, new, {8: "Toys"}) == []
    assert len(cells.changes(database, new, {8: "Games"})) == 1
    assert len(cells.changes(database, {}, {})) == 1, "all that are gone, at once"


def test_how_many_cells_there_are(database: Database[Document]) -> None:
    commits(database, ({CHEAP: ONE, OTHER: ONE}, {}), ({CHEAP: (-1,) * len(MEASURES)}, {}))
    assert cells.count(database, near=2) == 2
    assert cells.count(database, near=1) == 1, "an empty one is none where it matters"


def test_cells_that_the_served_cube_lacks(database: Database[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "BATCH_SIZE", 2)
    commits(database, ({CHEAP: ONE}, {}))
    assert cells.missing(database, [CHEAP, UNPRICED, OTHER]) == {UNPRICED, OTHER}
    assert cells.missing(database, []) == set()


def test_a_cube_of_too_many_cells_is_refused(wording: Wording) -> None:
    cells.require_at_most(100, 100, "publication 12")
    with pytest.raises(TooManyCells) as refused:
        cells.require_at_most(100_000, 800_000, "publication 12")
    wording.check(str(refused.value))


def test_an_empty_cell_is_not_read_and_can_be_removed(database: Database[Document]) -> None:
    nothing = (0,) * len(MEASURES)
    commits(database, ({CHEAP: ONE, OTHER: ONE, UNPRICED: nothing}, {}), ({CHEAP: tuple(-one for one in ONE)}, {}))
    with snapshot(database) as now:
        assert cells.read(now) == {OTHER: ONE}
    assert database.cube_cell.count_documents({}) == 2, "it may come again"
    cells.remove_empty(database)
    assert database.cube_cell.count_documents({}) == 1
