"""The served cube beside what it would be with other product states, rolled up to what people compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tidemark.catalog.cube import MEASURES, Cell
from tidemark.ingest.newest import FIELDS, State
from tidemark.serving import cells
from tidemark.serving.database import Document
from tidemark.serving.figures import figures, summed
from tidemark.serving.snapshot import Snapshot

_DIMENSIONS = len(Cell._fields)


class Shift:
    """Begins with the cube as it is served at a snapshot. What a product document says of itself is taken as served: it may lead by a
    micro-batch while the stream is at work.
    """

    def __init__(self, served: Snapshot) -> None:
        self._before = {cell: list(sums) for cell, sums in cells.read(served).items()}
        self._after = {cell: list(sums) for cell, sums in self._before.items()}

    def replace(self, state: State, document: Document | None) -> str:
        """Puts a state where a product's document is, if it is newer. Says what it is beside that: new, changed, unchanged, older."""
        if document is None:
            self._add(state.cell, state.measures, 1)
            return "new"
        tide = document["_tide"]
        held = tuple(tide["version"][name] for name in ("observed_at", "registered_at", "position"))
        if state.version <= held:
            return "unchanged" if state.version == held else "older"
        self._add(Cell(*tide["contribution"][:_DIMENSIONS]), tide["contribution"][_DIMENSIONS:], -1)
        self._add(state.cell, state.measures, 1)
        return "unchanged" if state.fields == tuple(document[name] for name in FIELDS.values()) else "changed"

    def summary(self) -> tuple[Document, Document]:
        """The whole catalog's figures before and after."""
        before, after = (figures(summed(cube.values())) for cube in (self._before, self._after))
        return before, after

    def by_category(self, names: Mapping[int, str], most: int) -> list[Document]:
        """Figures of the categories that change, those that gain or lose most products first."""
        before, after = _by_category(self._before), _by_category(self._after)
        nothing = [0] * len(MEASURES)
        found: list[Document] = [
            {
                "category_id": number,
                "category_name": names.get(number),
                "before": figures(before.get(number, nothing)),
                "after": figures(after.get(number, nothing)),
            }
            for number in sorted(before.keys() | after.keys())
            if before.get(number, nothing) != after.get(number, nothing)
        ]
        found.sort(key=lambda one: -abs(one["after"]["products"] - one["before"]["products"]))
        return found[:most]

    def _add(self, cell: Cell, measures: Iterable[int], sign: int) -> None:
        sums = self._after.setdefault(cell, [0] * len(MEASURES))
        for index, measure in enumerate(measures):
            sums[index] += sign * measure


def _by_category(cube: Mapping[Cell, list[int]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for cell, sums in cube.items():
        total = found.setdefault(cell.category_id, [0] * len(MEASURES))
        for index, measure in enumerate(sums):
            total[index] += measure
    return found
