"""Collections with their validators and indexes, and the views.

`python -m tidemark.serving.schema` creates or updates them in a database; with `--check` it reports the differences and changes nothing;
with `--upgrade` it also upgrades a database of an earlier layout.

Idempotent. It never drops or replaces a collection: an existing one gets the validator and indexes defined here. Whatever is up to date
is not touched, so a start beside running readers and writers takes no locks.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import bson
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from tidemark.catalog.cube import MEASURES
from tidemark.catalog.words import counted
from tidemark.serving import layout, quarantine, upgrades
from tidemark.serving.alerts import Condition
from tidemark.serving.bindings import Binding, to_document
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.documents import ControlDocument, LedgerDocument, PublicationDocument, SendingDocument, ServedDocument
from tidemark.serving.layout import LAYOUT, OtherLayout
from tidemark.serving.ledger import new_identity
from tidemark.serving.notes import KEPT_SECONDS
from tidemark.serving.operations import OPERATIONS
from tidemark.serving.views import VIEWS, View
from tidemark.settings import settings

Schema = dict[str, Any]
Key = tuple[list[tuple[str, Any]], bool, int | None]  # an index's fields, whether it is unique, its expireAfterSeconds

log = logging.getLogger(__name__)

_INDEX_NOT_FOUND, _NAMESPACE_EXISTS = 27, 48  # MongoDB's error codes

_WHOLE: Schema = {"bsonType": ["int", "long"]}
_COUNT: Schema = {"bsonType": ["int", "long"], "minimum": 0}
_COUNT_OR_NULL: Schema = {"bsonType": ["int", "long", "null"], "minimum": 0}
_TEXT: Schema = {"bsonType": "string"}
_TEXT_OR_NULL: Schema = {"bsonType": ["string", "null"]}
_DATE: Schema = {"bsonType": "date"}
_DATE_OR_NULL: Schema = {"bsonType": ["date", "null"]}
_LEVEL: Schema = {"bsonType": ["int", "null"]}
_DOLLARS: Schema = {"bsonType": "double"}


def _object(*, optional: Schema | None = None, **required: Schema) -> Schema:
    """An object with these fields; further fields are allowed."""
    return {"bsonType": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _array(items: Schema) -> Schema:
    return {"bsonType": "array", "items": items}


_CELL = _object(category_id={"bsonType": "int", "minimum": 1}, price_level=_LEVEL, is_best_seller={"bsonType": "bool"})
_MEASURES: dict[str, Schema] = dict.fromkeys(MEASURES, _WHOLE)
_OFFSETS = _array(_object(topic=_TEXT, partition=_COUNT, offset=_COUNT))
_ADOPTION = _object(
    log=_object(epoch=_COUNT, topics={"bsonType": "object"}, origin=_OFFSETS, landed=_OFFSETS, events=_COUNT),
    witness=_array(_object(topic=_TEXT, partition=_COUNT, offset=_COUNT, timestamp=_WHOLE, digest=_COUNT)),
    certain=_OFFSETS,
)
_VERSION = _object(observed_at=_WHOLE, registered_at=_WHOLE, position=_WHOLE, partition=_COUNT, offset=_COUNT)
_CATEGORY_VERSION = _object(registered_at=_WHOLE, position=_WHOLE, partition=_COUNT, offset=_COUNT)
# The three dimensions of the cell, then the measures in the order of catalog.cube.
_CONTRIBUTION: Schema = {"bsonType": "array", "minItems": 3 + len(MEASURES), "maxItems": 3 + len(MEASURES)}
_BEFORE: Schema = {
    "bsonType": ["object", "null"],
    "required": ["version", "contribution"],
    "properties": {"version": _VERSION, "contribution": _CONTRIBUTION},
}
_FIGURE: Schema = {"bsonType": ["int", "long", "double", "null"]}
_FIGURES = _object(products=_COUNT, average_price=_FIGURE, unpriced=_COUNT, average_stars=_FIGURE, unrated=_COUNT, categories=_COUNT)
_SHIFTS = _object(**dict.fromkeys(("products", "average_price", "unpriced", "unrated", "categories"), _FIGURE))
_COMPARED = _object(before=_FIGURES, after=_FIGURES, shifts=_SHIFTS, optional={"new_cells": _COUNT})


class Collection(NamedTuple):
    name: str
    schema: Schema
    indexes: tuple[IndexModel, ...] = ()


COLLECTIONS: tuple[Collection, ...] = (
    Collection(
        "product",
        _object(
            _id=_TEXT,
            asin=_TEXT,
            title=_TEXT,
            imgUrl=_TEXT_OR_NULL,
            productURL=_TEXT_OR_NULL,
            stars=_DOLLARS,
            reviews={"bsonType": "int"},
            price=_DOLLARS,
            listPrice=_DOLLARS,
            category_id={"bsonType": "int"},
            isBestSeller={"bsonType": "bool"},
            boughtInLastMonth={"bsonType": "int"},
            category_name=_TEXT,
            price_level=_LEVEL,
            date=_DATE,
            _tide=_object(
                version=_VERSION,
                contribution=_CONTRIBUTION,
                tag=_object(generation=_COUNT, batch=_COUNT),
                before=_BEFORE,
                optional={"category": {"bsonType": ["object", "null"]}},
            ),
        ),
        (
            IndexModel([("category_id", ASCENDING), ("price", ASCENDING)]),
            IndexModel([("category_name", ASCENDING)]),
            IndexModel([("price", ASCENDING)]),
        ),
    ),
    Collection("category", _object(_id={"bsonType": "int"}, category_name=_TEXT, _tide=_object(version=_CATEGORY_VERSION))),
    Collection(
        "cube_cell",
        _object(_id=_CELL, **_CELL["properties"], category_name=_TEXT, label=_TEXT, **_MEASURES),
        (IndexModel([("category_id", ASCENDING)]), IndexModel([("category_name", ASCENDING)])),
    ),
    Collection(
        "publication",
        _object(
            _id=_COUNT,
            mark=_OFFSETS,
            published_at=_DATE_OR_NULL,
            rules=_TEXT_OR_NULL,
            optional={
                "cut": {
                    "bsonType": ["object", "null"],
                    "required": ["served", "rebuilds", "rebuilding"],
                    "properties": {"served": _COUNT, "rebuilds": _COUNT, "rebuilding": _COUNT_OR_NULL, "cells": _COUNT},
                },
                "layers": {**_array(_TEXT), "bsonType": ["array", "null"]},
                "since_full": _COUNT,
                "newest_event": _DATE_OR_NULL,
                "newest_observation": _DATE_OR_NULL,
                "adoption": _ADOPTION,
            },
        ),
    ),
    Collection(
        "publication_cell",
        _object(_id={"bsonType": "object"}, publication=_COUNT, cell=_CELL, **_MEASURES),
        (IndexModel([("publication", ASCENDING)]),),
    ),
    Collection(
        "cut_cell",
        _object(_id={"bsonType": "object"}, publication=_COUNT, cell=_CELL, **_MEASURES),
        (IndexModel([("publication", ASCENDING)]),),
    ),
    Collection("state", _object(_id=_TEXT)),
    Collection(
        "history",
        _object(_id={"bsonType": "object"}, day=_DATE, cell=_CELL, **_MEASURES),
        (IndexModel([("day", ASCENDING)]),),
    ),
    Collection("history_day", _object(_id=_DATE, mark=_OFFSETS, rules=_TEXT, digest=_TEXT, computed_at=_DATE)),
    Collection(
        "quarantine",
        _object(
            _id=_TEXT,
            topic=_TEXT,
            partition=_COUNT,
            offset=_COUNT,
            timestamp=_DATE,
            reason=_TEXT,
            raw={"bsonType": ["binData", "null"]},
            source={"bsonType": ["object", "string"]},
            status={"enum": list(quarantine.STATUSES)},
            optional={
                "registered_at": _WHOLE,
                "position": _WHOLE,
                "replayed": _object(at=_DATE, by=_TEXT, patch={"bsonType": "object"}, topic=_TEXT, partition=_COUNT, offset=_COUNT),
                "discarded": _object(at=_DATE, by=_TEXT, why=_TEXT),
            },
        ),
        (
            IndexModel([("status", ASCENDING), ("reason", ASCENDING)]),
            IndexModel([("status", ASCENDING), *((name, ASCENDING) for name in quarantine.IN_ORDER)]),
            IndexModel([("timestamp", DESCENDING)]),
            IndexModel([("source.ingestion", ASCENDING)]),
        ),
    ),
    Collection(
        "ingestion",
        _object(
            _id=_TEXT,
            kind={"enum": ["product", "category"]},
            name=_TEXT,
            bytes=_COUNT,
            rows=_COUNT,
            content=_TEXT,
            observed_at=_DATE,
            columns=_array(_TEXT),
            separator=_TEXT,
            chunks=_COUNT,
            file=_TEXT,
            member=_TEXT_OR_NULL,
            registered_at=_DATE,
            optional={
                "reconciled": {"bsonType": "bool"},
                "withdrawn": {
                    "bsonType": ["object", "null"],
                    "required": ["by", "at", "reason"],
                    "properties": {"by": _TEXT, "at": _DATE, "reason": _TEXT},
                },
            },
        ),
        (IndexModel([("registered_at", DESCENDING)]),),
    ),
    Collection(
        "ingestion_chunk",
        _object(
            _id=_TEXT,
            ingestion=_TEXT,
            number=_COUNT,
            start=_COUNT,
            end=_COUNT,
            rows=_COUNT,
            content=_TEXT,
            status={"enum": ["planned", "done"]},
            optional={
                "acknowledged": {"bsonType": ["int", "long", "null"]},
                "ends": {**_OFFSETS, "bsonType": ["array", "null"]},
                "lost": {"bsonType": "bool"},
            },
        ),
        (IndexModel([("ingestion", ASCENDING), ("number", ASCENDING)], unique=True),),
    ),
    # Withdrawn posts, by their name; few.
    Collection("withdrawn_posts", _object(_id=_TEXT, by=_TEXT, at=_DATE, reason=_TEXT)),
    Collection("verification", _object(at=_DATE, drift=_COUNT, optional={"compared": _COMPARED}), (IndexModel([("at", DESCENDING)]),)),
    # One document per condition; no index is needed.
    Collection(
        "alert",
        _object(
            _id={"enum": [str(one) for one in Condition]},
            text=_TEXT,
            began_at=_DATE,
            ended_at=_DATE_OR_NULL,
            calm_since=_DATE_OR_NULL,
            notified={"bsonType": "object", "additionalProperties": {"bsonType": "bool"}},
        ),
    ),
    Collection(
        "stream_minute",
        _object(_id=_DATE, minute=_DATE, micro_batches=_COUNT, events=_COUNT, rejected=_COUNT, busy_milliseconds=_COUNT),
        (IndexModel([("minute", ASCENDING)], expireAfterSeconds=KEPT_SECONDS),),
    ),
    Collection(
        "size",
        _object(_id={"bsonType": "object"}, part=_TEXT, at=_DATE, bytes=_COUNT, items=_COUNT),
        (IndexModel([("at", DESCENDING)]),),
    ),
)


# The initial documents.
_PUBLICATION_0: PublicationDocument = {"_id": 0, "mark": [], "published_at": None, "rules": None}
_SERVED: ServedDocument = {"_id": "served", "publication": 0}
_SENDING: SendingDocument = {"_id": "sending", "epoch": 0, "chunks": 0}
_CONTROL: ControlDocument = {"_id": "control", "restarts": 0, "pause": None, "stopped_at": None}


def _ledger() -> LedgerDocument:
    return {
        "_id": "ledger",
        "layout": LAYOUT,
        "identity": new_identity(),
        "generation": 0,
        "committed": {},
        "offsets": [],
        "log": to_document(Binding()),
        "witness": [],
        "rules": None,
        "rebuilding": None,
        "rebuilds": 0,
    }


class SchemaDiffers(Exception):
    """A database differs from the schema defined here."""


def prepare(database: Database[Document]) -> None:
    """Creates or updates collections, validators, indexes, views and initial documents.

    Raises OtherLayout, before anything is changed, if the database has another layout: upgrades.upgrade() comes first.
    """
    if (found := database.state.find_one({"_id": "ledger"})) is not None:
        layout.require(layout.layout_of(found), f"database {database.name}")
    present = _present(database)
    for collection in COLLECTIONS:
        _create_or_modify(database, collection.name, present, _validation(collection))
        _index(database[collection.name], collection.indexes)
    for view in (*VIEWS, *OPERATIONS):
        _create_or_modify(database, view.name, present, _definition(view))
    _insert_once(database, "publication", _PUBLICATION_0)
    for document in (_SERVED, _SENDING, _CONTROL, _ledger()):
        _insert_once(database, "state", document)


def differences(database: Database[Document]) -> list[str]:
    """The collections, validators, indexes and views that prepare() would create or change, one per line."""
    present = _present(database)
    wanted = {f"validator of collection {one.name}": (one.name, _validation(one)) for one in COLLECTIONS}
    wanted |= {f"view {one.name}": (one.name, _definition(one)) for one in (*VIEWS, *OPERATIONS)}
    found = [
        f"{what} {'differs' if name in present else 'is missing'}"
        for what, (name, options) in wanted.items()
        if not _matches(present, name, options)
    ]
    for collection in COLLECTIONS:
        if collection.name in present:
            missing = _missing(_existing_indexes(database[collection.name]), collection.indexes)
            found += [f"collection {collection.name}: index {index.document['name']} is missing or differs" for index in missing]
    return found


def require(database: Database[Document]) -> None:
    """Raises SchemaDiffers, which lists the differences."""
    if found := differences(database):
        raise SchemaDiffers(f"{'; '.join(found)}: run `python -m tidemark.serving.schema`, or start the stack again (make start)")


def _present(database: Database[Document]) -> dict[str, Document]:
    """The options of the existing collections and views, by name."""
    return {one["name"]: one["options"] for one in database.list_collections()}


def _validation(collection: Collection) -> dict[str, Any]:
    return {"validator": {"$jsonSchema": collection.schema}, "validationLevel": "strict", "validationAction": "error"}


def _definition(view: View) -> dict[str, Any]:
    return {"viewOn": view.on, "pipeline": view.pipeline}


def _matches(present: Mapping[str, Document], name: str, options: Mapping[str, Any]) -> bool:
    """Does it exist with these options? Compared as BSON, because the order of fields matters."""
    return name in present and bson.encode({key: present[name].get(key) for key in options}) == bson.encode(options)


def _create_or_modify(database: Database[Document], name: str, present: Mapping[str, Document], options: dict[str, Any]) -> None:
    """Creates a collection or view, or updates an existing one to the options. Safe when another process does the same."""
    if _matches(present, name, options):
        return
    if name not in present:
        try:
            database.create_collection(name, check_exists=False, **options)
            return
        except OperationFailure as failure:
            if failure.code != _NAMESPACE_EXISTS:
                raise
            log.debug("%s has been created by another process", name)
    database.command("collMod", name, **options)


def _index(collection: MongoCollection[Document], wanted: Iterable[IndexModel]) -> None:
    """Creates missing indexes. They replace indexes of the same name or fields that differ; all others stay."""
    existing = _existing_indexes(collection)
    missing = _missing(existing, wanted)
    for index in missing:
        name, (fields, *_) = index.document["name"], _key_of(index.document)
        for former in (former for former, (of, *_) in existing.items() if former == name or of == fields):
            try:
                collection.drop_index(former)
            except OperationFailure as failure:
                if failure.code != _INDEX_NOT_FOUND:
                    raise
    if missing:
        collection.create_indexes(missing)


def _existing_indexes(collection: MongoCollection[Document]) -> dict[str, Key]:
    return {name: _key_of(one) for name, one in collection.index_information().items()}


def _missing(existing: Mapping[str, Key], wanted: Iterable[IndexModel]) -> list[IndexModel]:
    """The wanted indexes without an existing one of equal fields and options, whatever its name."""
    return [index for index in wanted if _key_of(index.document) not in existing.values()]


def _key_of(index: Mapping[str, Any]) -> Key:
    fields = index["key"]
    return list(fields.items() if isinstance(fields, Mapping) else fields), index.get("unique", False), index.get("expireAfterSeconds")


def _insert_once(database: Database[Document], collection: str, document: Mapping[str, Any]) -> None:
    database[collection].update_one({"_id": document["_id"]}, {"$setOnInsert": document}, upsert=True)


def main(words: Sequence[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m tidemark.serving.schema", description="Creates or updates the collections, indexes and views of a database."
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="only report what would be changed; exit status 1 if anything would")
    how.add_argument("--upgrade", action="store_true", help="also upgrade a database of an earlier layout; make a backup before")
    given = parser.parse_args(words)
    of = settings()
    with connect(of.mongodb) as client:
        database = database_of(client, of.database)
        if given.check:
            found = [f"upgrade to layout {one.layout}: {one.what}" for one in upgrades.pending(database)] + differences(database)
            for line in found:
                log.error("%s", line)
            log.info("database %s: %s", database.name, counted(len(found), "difference"))
            return int(bool(found))
        if given.upgrade:
            upgrades.upgrade(database)
        try:
            prepare(database)
        except OtherLayout as reason:
            log.error("%s", reason)
            return 1
        log.info("database %s is ready: %d collections, %d views", database.name, len(COLLECTIONS), len(VIEWS) + len(OPERATIONS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
