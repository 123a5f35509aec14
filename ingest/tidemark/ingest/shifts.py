"""The served cube compared with the cube after an ingestion, rolled up to the figures that people compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tidemark.catalog.cube import MEASURES, Cell
from tidemark.ingest.newest import FIELDS, State
from tidemark.serving import cells
from tidemark.serving.database import Document
from tidemark.serving.documents import FiguresDocument
from tidemark.serving.figures import figures, summed
from tidemark.serving.snapshot import Snapshot

_DIMENSIONS = len(Cell._fields)


class Shift:
    """Starts from the served cube of a snapshot. A product document is taken as served, although it may be one micro-batch ahead while
    the stream is running.
    """

    def __init__(self, served: Snapshot) -> None:
        self._before = {cell: list(sums) for cell, sums in cells.read(served).items()}
        self._after = {cell: list(sums) for cell, sums in self._before.items()}

    def replace(self, state: State, document: Document | None) -> str:
        """Replaces a product's state if this one is newer. Returns how it compares: new, changed, unchanged or older."""
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

    def summary(self) -> tuple[FiguresDocument, FiguresDocument]:
        """The figures of the whole catalog before and after."""
        before, after = (figures(summed(cube.values())) for cube in (self._before, self._after))
        return before, after

    def by_category(self, names: Mapping[int, str], most: int) -> list[Document]:
        """The figures of at most `most` categories that change, by descending change in the number of products."""
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
