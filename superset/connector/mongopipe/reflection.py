"""The tables of a database and their columns, from $jsonSchema validators or from a sample of documents."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Any
from uuid import UUID

from bson import Decimal128, Int64, ObjectId
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from pymongo.database import Database

from mongopipe import view_fields
from mongopipe.errors import ProgrammingError, translated
from mongopipe.schema import Field, Table
from mongopipe.sql_types import BSON_TYPES, SqlType, common_type

Document = Mapping[str, Any]
_DEPTH = 8  # levels of nested documents that become columns; deeper documents are one column


class Reflection:
    """A catalog (see schema.Catalog) of one database. It reads through `database` and caches for `seconds`."""

    def __init__(self, database: Database[dict[str, Any]], sample_size: int, seconds: float, clock: Callable[[], float] = time.monotonic):
        self._database = database
        self._sample_size = sample_size
        self._seconds = seconds
        self._clock = clock
        self._lock = Lock()
        self._listed: tuple[float, dict[str, Document]] | None = None
        self._tables: dict[str, tuple[float, Table]] = {}

    @property
    def database(self) -> str:
        return self._database.name

    def names(self, *, views: bool) -> list[str]:
        """Returns the names of all collections, or of all views."""
        return sorted(name for name, entry in self._entries().items() if (entry["type"] == "view") is views)

    def table(self, name: str) -> Table:
        """Returns the collection or view of that name. Raises ProgrammingError if there is none."""
        with self._lock:
            known = self._tables.get(name)
        if known is not None and self._clock() - known[0] < self._seconds:
            return known[1]
        entry = self._entries().get(name) or self._entries(again=True).get(name)
        if entry is None:
            raise ProgrammingError(f"no such table: {name}")
        table = self._found(name, entry)
        with self._lock:
            self._tables[name] = (self._clock(), table)
        return table

    def forget(self) -> None:
        """Clears the cache."""
        with self._lock:
            self._listed = None
            self._tables.clear()

    def indexes(self, name: str) -> dict[str, Document]:
        """Returns the indexes of a collection by name, as the server describes them. A view has none."""
        entry = self._entries().get(name)
        if entry is None or entry["type"] == "view":
            return {}
        with translated():
            return dict(self._database[name].index_information())

    def view(self, name: str) -> Document:
        """Returns the definition of a view: `viewOn`, its collection, and `pipeline`. A collection has none."""
        options = self._entries()[name].get("options", {})
        return {key: options[key] for key in ("viewOn", "pipeline") if key in options}

    def _entries(self, *, again: bool = False) -> dict[str, Document]:
        with self._lock:
            known = self._listed
        if known is not None and not again and self._clock() - known[0] < self._seconds:
            return known[1]
        with translated(), self._database.list_collections() as cursor:
            entries: dict[str, Document] = {each["name"]: each for each in cursor if not each["name"].startswith("system.")}
        with self._lock:
            self._listed = (self._clock(), entries)
        return entries

    def _found(self, name: str, entry: Document) -> Table:
        options = entry.get("options", {})
        schema = options.get("validator", {}).get("$jsonSchema", {})
        is_view = entry["type"] == "view"
        if schema.get("properties"):
            fields = list(declared(schema))
            if not any(each.path == ("_id",) for each in fields):
                fields = [*(each for each in self._sampled(name, 1) if each.path == ("_id",)), *fields]
        else:
            fields = self._sampled(name, self._sample_size)
        if is_view:
            fields = [*fields, *(each for each in self._named(entry) if not any(_overlap(each.path, other.path) for other in fields))]
        return Table(name, unambiguous(fields), is_view, schema.get("description"))

    def _named(self, view: Document) -> list[Field]:
        """Returns the fields that a view's pipeline defines. The documents of a sample may lack some of them."""
        options = view["options"]
        below = self.table(options["viewOn"]).fields if options["viewOn"] in self._entries() else ()
        return view_fields.after(options.get("pipeline", ()), below)

    def _sampled(self, name: str, size: int) -> list[Field]:
        """Returns the fields of a sample of `size` documents, or of all documents if `size` is 0. Keeps no document in memory.

        The documents are sorted, because the order of columns depends on their order: `SELECT *` returns a stable order of columns.
        """
        stages = [{"$sample": {"size": size}}, {"$sort": {"_id": 1}}] if size else []
        with translated(), self._database[name].aggregate(stages, allowDiskUse=True) as documents:
            return list(sampled(documents))


def _overlap(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Returns whether one path is a prefix of the other."""
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def unambiguous(fields: Iterable[Field]) -> tuple[Field, ...]:
    """Returns the fields without those whose name an earlier field has: {"a.b": 1} beside {"a": {"b": 1}}."""
    found: dict[str, Field] = {}
    for each in fields:
        found.setdefault(each.name, each)
    return tuple(found.values())


def declared(schema: Document, path: tuple[str, ...] = (), optional: bool = False) -> Iterator[Field]:
    """Yields the fields that a $jsonSchema describes. A nested document with properties becomes one field for each property."""
    required = schema.get("required", ())
    for name, each in schema.get("properties", {}).items():
        types = _declared_types(each)
        nullable = optional or name not in required or SqlType.NULL in types
        inner = (*path, name)
        if common_type(types) is SqlType.DOCUMENT and each.get("properties") and len(inner) < _DEPTH:
            yield from declared(each, inner, nullable)
            continue
        items = each.get("items")
        element = common_type(_declared_types(items)) if isinstance(items, Mapping) else SqlType.MIXED
        sql_type = common_type(types)
        yield Field(".".join(inner), inner, sql_type, nullable, element if sql_type is SqlType.ARRAY else None)


def _declared_types(schema: Document) -> set[SqlType]:
    names = schema.get("bsonType", schema.get("type", []))
    types = {_JSON_TYPES.get(name) or BSON_TYPES.get(name, SqlType.MIXED) for name in ([names] if isinstance(names, str) else names)}
    for key in ("anyOf", "oneOf"):
        for each in schema.get(key, ()):
            types |= _declared_types(each)
    if not types:
        types = {type_of(value) for value in schema.get("enum", ())}
    if not types and "properties" in schema:
        return {SqlType.DOCUMENT}
    return types or {SqlType.MIXED}


_JSON_TYPES = {"boolean": SqlType.BOOLEAN, "integer": SqlType.INTEGER}


@dataclass
class _Seen:
    """The types that a sample has at one path."""

    types: Counter[SqlType] = field(default_factory=Counter)
    elements: set[SqlType] = field(default_factory=set)


def sampled(documents: Iterable[Document]) -> Iterator[Field]:
    """Yields the fields of documents, in the documents' order. A field that some document lacks or has as null is nullable."""
    seen: dict[tuple[str, ...], _Seen] = {}
    order: list[tuple[str, ...]] = []
    count = 0
    for document in documents:
        count += 1
        _visit(document, (), seen, order, -1)
    for path in order:
        found = seen[path]
        sql_type = common_type(found.types)
        if sql_type is SqlType.DOCUMENT and any(other[: len(path)] == path and len(other) > len(path) for other in seen):
            continue
        if any(common_type(seen[path[:length]].types) is not SqlType.DOCUMENT for length in range(1, len(path))):
            continue
        values = sum(number for each, number in found.types.items() if each is not SqlType.NULL)
        yield Field(".".join(path), path, sql_type, values < count, common_type(found.elements) if sql_type is SqlType.ARRAY else None)


def _visit(document: Document, path: tuple[str, ...], seen: dict[tuple[str, ...], _Seen], order: list[tuple[str, ...]], place: int) -> int:
    """Records a document's fields.

    New paths enter `order` after the field before them, at `place`. Returns the place of the last field.
    """
    for name, value in document.items():
        inner = (*path, name)
        if inner not in seen:
            order.insert(place + 1, inner)
        place = order.index(inner)
        found = seen.setdefault(inner, _Seen())
        sql_type = type_of(value)
        found.types[sql_type] += 1
        if sql_type is SqlType.ARRAY:
            found.elements |= {type_of(each) for each in value}
        elif sql_type is SqlType.DOCUMENT and len(inner) < _DEPTH:
            place = _visit(value, inner, seen, order, place)
    return place


def type_of(value: Any) -> SqlType:
    """Returns the SQL type of a decoded BSON value."""
    match value:
        case None:
            return SqlType.NULL
        case bool():
            return SqlType.BOOLEAN
        case int() | Int64():
            return SqlType.INTEGER
        case float():
            return SqlType.DOUBLE
        case Decimal128():
            return SqlType.DECIMAL
        case str():
            return SqlType.STRING
        case datetime() | DatetimeMS():
            return SqlType.TIMESTAMP
        case ObjectId():
            return SqlType.OBJECT_ID
        case bytes() | Binary() | UUID():
            return SqlType.BINARY
        case list():
            return SqlType.ARRAY
        case Mapping():
            return SqlType.DOCUMENT
    return SqlType.MIXED
