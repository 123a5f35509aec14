"""The newest state of each product in some files, kept on disk so that catalogs of any size fit."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tidemark.catalog.cube import MEASURES, Cell, cell_of, contribution_of
from tidemark.catalog.observations import ProductObservation

BATCH_SIZE = 5_000  # products per batch

# Fields of an observation, and the corresponding fields of a product document.
FIELDS = {
    "title": "title",
    "img_url": "imgUrl",
    "product_url": "productURL",
    "stars": "stars",
    "reviews": "reviews",
    "price": "price",
    "list_price": "listPrice",
    "category_id": "category_id",
    "is_best_seller": "isBestSeller",
    "bought_in_last_month": "boughtInLastMonth",
}
_fields = attrgetter(*FIELDS)
_measures = attrgetter(*MEASURES)


class State(NamedTuple):
    """A product's newest row. `fields` are in the order of FIELDS.

    `version` is the part of a version that is known before sending: observed_at, registered_at, position.
    """

    version: tuple[int, int, int]
    cell: Cell
    measures: tuple[int, ...]
    fields: tuple[Any, ...]


class Newest:
    """Keeps the newest state of each product, in a temporary file in the folder, which is deleted on exit.

    When a file was registered is known only once it has been read: end_file() compares its products with those of other files.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{uuid.uuid4().hex}.part"
        self._database = sqlite3.connect(self._path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE newest (asin TEXT PRIMARY KEY, observed_at INT, registered_at INT, position INT, state BLOB) WITHOUT ROWID"
        )
        self._database.execute("CREATE TABLE of_file (asin TEXT PRIMARY KEY, observed_at INT, position INT, state BLOB) WITHOUT ROWID")

    def __enter__(self) -> Newest:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        self._path.unlink(missing_ok=True)

    def add(self, some: Iterable[ProductObservation]) -> None:
        """Adds products of a file, in the order of its rows."""
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT OR REPLACE INTO of_file VALUES (?, ?, ?, ?)",
            (
                (
                    one.asin,
                    one.observed_at,
                    one.version.position,
                    orjson.dumps((cell_of(one), _measures(contribution_of(one)), _fields(one)), default=tuple),
                )
                for one in some
            ),
        )
        self._database.execute("COMMIT")

    def end_file(self, registered_at: int) -> None:
        """Ends the file whose products have been added: it was registered at `registered_at` (ms since 1970)."""
        self._database.execute("BEGIN")
        self._database.execute(
            "INSERT INTO newest SELECT asin, observed_at, ?, position, state FROM of_file WHERE TRUE "
            "ON CONFLICT (asin) DO UPDATE SET observed_at = excluded.observed_at, "
            "registered_at = excluded.registered_at, position = excluded.position, state = excluded.state "
            "WHERE (excluded.observed_at, excluded.registered_at, excluded.position) >= (observed_at, registered_at, position)",
            (registered_at,),
        )
        self._database.execute("DELETE FROM of_file")
        self._database.execute("COMMIT")

    def batches(self) -> Iterator[dict[str, State]]:
        """All states of the files that have ended, by ASIN, in batches."""
        with closing(self._database.execute("SELECT asin, observed_at, registered_at, position, state FROM newest ORDER BY asin")) as rows:
            while some := rows.fetchmany(BATCH_SIZE):
                yield {
                    asin: _state((observed_at, registered_at, position), state)
                    for asin, observed_at, registered_at, position, state in some
                }


def _state(version: tuple[int, int, int], state: bytes) -> State:
    cell, measures, fields = orjson.loads(state)
    return State(version, Cell(*cell), tuple(measures), tuple(fields))
