"""The tables of a database and their columns, found in $jsonSchema validators or in a sample of documents."""

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
from mongopipe.kinds import BSON_KINDS, Kind, common
from mongopipe.schema import Field, Table

Document = Mapping[str, Any]
_DEPTH = 8  # levels of nested documents that become columns


class Reflection:
    """A catalog (see schema.Catalog) of one database, read through `database` and remembered for `seconds`."""

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
        """The names of all collections, or of all views."""
        return sorted(name for name, entry in self._entries().items() if (entry["type"] == "view") is views)

    def table(self, name: str) -> Table:
        """The collection or view of that name. Raises ProgrammingError where there is none."""
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
        """Forgets everything: the next look is at the database."""
        with self._lock:
            self._listed = None
            self._tables.clear()

    def indexes(self, name: str) -> dict[str, Document]:
        """The indexes of a collection by name, as the server describes them; none of a view."""
        entry = self._entries().get(name)
        if entry is None or entry["type"] == "view":
            return {}
        with translated():
            return dict(self._database[name].index_information())

    def view(self, name: str) -> Document:
        """What a view shows: `viewOn`, the collection, and `pipeline`; empty for a collection."""
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
        """The fields that a view's pipeline names, which no document of the sample may have."""
        options = view["options"]
        below = self.table(options["viewOn"]).fields if options["viewOn"] in self._entries() else ()
        return view_fields.after(options.get("pipeline", ()), below)

    def _sampled(self, name: str, size: int) -> list[Field]:
        """Of so many documents, of all for 0; one after the other, none is kept.

        Sorted, because the order of columns follows from that of documents: `SELECT *` is the same each time.
        """
        stages = [{"$sample": {"size": size}}, {"$sort": {"_id": 1}}] if size else []
        with translated(), self._database[name].aggregate(stages, allowDiskUse=True) as documents:
            return list(sampled(documents))


def _overlap(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Is one the other, or within it?"""
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def unambiguous(fields: Iterable[Field]) -> tuple[Field, ...]:
    """The fields without those whose name an earlier one has: {"a.b": 1} beside {"a": {"b": 1}}."""
    found: dict[str, Field] = {}
    for each in fields:
        found.setdefault(each.name, each)
    return tuple(found.values())


def declared(schema: Document, path: tuple[str, ...] = (), optional: bool = False) -> Iterator[Field]:
    """The fields that a $jsonSchema describes; nested documents with properties become one field for each property."""
    required = schema.get("required", ())
    for name, each in schema.get("properties", {}).items():
        kinds = _declared_kinds(each)
        nullable = optional or name not in required or Kind.NULL in kinds
        inner = (*path, name)
        if common(kinds) is Kind.DOCUMENT and each.get("properties") and len(inner) < _DEPTH:
            yield from declared(each, inner, nullable)
            continue
        items = each.get("items")
        element = common(_declared_kinds(items)) if isinstance(items, Mapping) else Kind.MIXED
        kind = common(kinds)
        yield Field(".".join(inner), inner, kind, nullable, element if kind is Kind.ARRAY else None)


def _declared_kinds(schema: Document) -> set[Kind]:
    names = schema.get("bsonType", schema.get("type", []))
    kinds = {_JSON_KINDS.get(name) or BSON_KINDS.get(name, Kind.MIXED) for name in ([names] if isinstance(names, str) else names)}
    for key in ("anyOf", "oneOf"):
        for each in schema.get(key, ()):
            kinds |= _declared_kinds(each)
    if not kinds:
        kinds = {kind_of(value) for value in schema.get("enum", ())}
    if not kinds and "properties" in schema:
        return {Kind.DOCUMENT}
    return kinds or {Kind.MIXED}


_JSON_KINDS = {"boolean": Kind.BOOLEAN, "integer": Kind.INTEGER}


@dataclass
class _Seen:
    """What a sample showed of one path."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    elements: set[Kind] = field(default_factory=set)


def sampled(documents: Iterable[Document]) -> Iterator[Field]:
    """The fields that documents have, in the documents' order; a field that is missing or null somewhere is nullable."""
    seen: dict[tuple[str, ...], _Seen] = {}
    order: list[tuple[str, ...]] = []
    count = 0
    for document in documents:
        count += 1
        _look(document, (), seen, order, -1)
    for path in order:
        found = seen[path]
        kind = common(found.kinds)
        if kind is Kind.DOCUMENT and any(other[: len(path)] == path and len(other) > len(path) for other in seen):
            continue
        if any(common(seen[path[:length]].kinds) is not Kind.DOCUMENT for length in range(1, len(path))):
            continue
        values = sum(number for each, number in found.kinds.items() if each is not Kind.NULL)
        yield Field(".".join(path), path, kind, values < count, common(found.elements) if kind is Kind.ARRAY else None)


def _look(document: Document, path: tuple[str, ...], seen: dict[tuple[str, ...], _Seen], order: list[tuple[str, ...]], place: int) -> int:
    """Notes a document's fields. `order` gets a new path behind the field before it, at `place`; gives the last field's place."""
    for name, value in document.items():
        inner = (*path, name)
        if inner not in seen:
            order.insert(place + 1, inner)
        place = order.index(inner)
        found = seen.setdefault(inner, _Seen())
        kind = kind_of(value)
        found.kinds[kind] += 1
        if kind is Kind.ARRAY:
            found.elements |= {kind_of(each) for each in value}
        elif kind is Kind.DOCUMENT and len(inner) < _DEPTH:
            place = _look(value, inner, seen, order, place)
    return place


def kind_of(value: Any) -> Kind:
    """The kind of a decoded BSON value."""
    match value:
        case None:
            return Kind.NULL
        case bool():
            return Kind.BOOLEAN
        case int() | Int64():
            return Kind.INTEGER
        case float():
            return Kind.DOUBLE
        case Decimal128():
            return Kind.DECIMAL
        case str():
            return Kind.STRING
        case datetime() | DatetimeMS():
            return Kind.TIMESTAMP
        case ObjectId():
            return Kind.OBJECT_ID
        case bytes() | Binary() | UUID():
            return Kind.BINARY
        case list():
            return Kind.ARRAY
        case Mapping():
            return Kind.DOCUMENT
    return Kind.MIXED
