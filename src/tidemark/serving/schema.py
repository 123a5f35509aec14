"""Collections with their validators and indexes, and the views.

`python -m tidemark.serving.schema` brings a database to them; with `--check` it reports the differences and changes nothing.

Idempotent, and never drops or swaps a collection that is in use: an existing one gets the validator and indexes of the code. What is as
the code has it is not touched, so that a start beside running readers and writers locks nothing.
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
from tidemark.serving import quarantine
from tidemark.serving.alerts import Condition
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.notes import KEPT_SECONDS
from tidemark.serving.operations import OPERATIONS
from tidemark.serving.views import VIEWS, View

Schema = dict[str, Any]
Key = tuple[list[tuple[str, Any]], bool, int | None]  # an index's fields, whether it is unique, how many seconds documents live by it

log = logging.getLogger(__name__)

_INDEX_NOT_FOUND, _NAMESPACE_EXISTS = 27, 48  # MongoDB's error codes

_WHOLE: Schema = {"bsonType": ["int", "long"]}
_COUNT: Schema = {"bsonType": ["int", "long"], "minimum": 0}
_TEXT: Schema = {"bsonType": "string"}
_TEXT_OR_NULL: Schema = {"bsonType": ["string", "null"]}
_DATE: Schema = {"bsonType": "date"}
_DATE_OR_NULL: Schema = {"bsonType": ["date", "null"]}
_LEVEL: Schema = {"bsonType": ["int", "null"]}
_DOLLARS: Schema = {"bsonType": "double"}


def _object(*, optional: Schema | None = None, **required: Schema) -> Schema:
    """An object with these fields; others may stand beside them."""
    return {"bsonType": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _array(items: Schema) -> Schema:
    return {"bsonType": "array", "items": items}


_CELL = _object(category_id={"bsonType": "int", "minimum": 1}, price_level=_LEVEL, is_best_seller={"bsonType": "bool"})
_MEASURES: dict[str, Schema] = dict.fromkeys(MEASURES, _WHOLE)
_OFFSETS = _array(_object(topic=_TEXT, partition=_COUNT, offset=_COUNT))
_VERSION = _object(observed_at=_WHOLE, registered_at=_WHOLE, position=_WHOLE, partition=_COUNT, offset=_COUNT)
_CATEGORY_VERSION = _object(registered_at=_WHOLE, position=_WHOLE, partition=_COUNT, offset=_COUNT)
# The cell's three dimensions, then the measures, in the order of catalog.cube.
_CONTRIBUTION: Schema = {"bsonType": "array", "minItems": 3 + len(MEASURES), "maxItems": 3 + len(MEASURES)}
_BEFORE: Schema = {
    "bsonType": ["object", "null"],
    "required": ["version", "contribution"],
    "properties": {"version": _VERSION, "contribution": _CONTRIBUTION},
}
_FIGURE: Schema = {"bsonType": ["int", "long", "double", "null"]}
_FIGURES = _object(products=_COUNT, average_price=_FIGURE, unpriced=_COUNT, average_stars=_FIGURE, unrated=_COUNT, categories=_COUNT)
_SHIFTS = _object(**dict.fromkeys(("products", "average_price", "unpriced", "unrated", "categories"), _FIGURE))
_COMPARED = _object(before=_FIGURES, after=_FIGURES, shifts=_SHIFTS)


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
                    "required": ["served", "rebuilds"],
                    "properties": {"served": _COUNT, "rebuilds": _COUNT},
                },
                "layers": {**_array(_COUNT), "bsonType": ["array", "null"]},
                "since_full": _COUNT,
                "newest_event": _DATE_OR_NULL,
                "newest_observation": _DATE_OR_NULL,
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
    Collection("history_day", _object(_id=_DATE, landing=_COUNT, rules=_TEXT, digest=_TEXT, computed_at=_DATE)),
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
            file=_TEXT,
            name=_TEXT,
            bytes=_COUNT,
            rows=_COUNT,
            content=_TEXT,
            observed_at=_DATE,
            registered_at=_DATE,
            chunks=_COUNT,
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
            optional={"acknowledged": {"bsonType": ["int", "long", "null"]}, "ends": {**_OFFSETS, "bsonType": ["array", "null"]}},
        ),
        (IndexModel([("ingestion", ASCENDING), ("number", ASCENDING)], unique=True),),
    ),
    Collection("verification", _object(at=_DATE, drift=_COUNT, optional={"compared": _COMPARED}), (IndexModel([("at", DESCENDING)]),)),
    # One document a condition: there are few.
    Collection(
        "alert",
        _object(
            _id={"enum": [str(one) for one in Condition]},
            text=_TEXT,
            began_at=_DATE,
            ended_at=_DATE_OR_NULL,
            calm_since=_DATE_OR_NULL,
            told={"bsonType": "object", "additionalProperties": {"bsonType": "bool"}},
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


class Differs(Exception):
    """A database is not as the code has it."""


def prepare(database: Database[Document]) -> None:
    """Creates what is missing and brings the rest to the code: collections, validators, indexes, views, first documents."""
    present = _present(database)
    for collection in COLLECTIONS:
        _create_or_modify(database, collection.name, present, _validation(collection))
        _index(database[collection.name], collection.indexes)
    for view in (*VIEWS, *OPERATIONS):
        _create_or_modify(database, view.name, present, _definition(view))
    _insert_once(database, "publication", {"_id": 0, "mark": [], "published_at": None, "rules": None})
    _insert_once(database, "state", {"_id": "served", "publication": 0})
    _insert_once(database, "state", {"_id": "control", "restarts": 0, "pause": None, "stopped_at": None})
    _insert_once(
        database,
        "state",
        {"_id": "ledger", "generation": 0, "committed": {}, "offsets": [], "topics": {}, "rules": None, "rebuilding": None, "rebuilds": 0},
    )


def differences(database: Database[Document]) -> list[str]:
    """What prepare() would create or change of collections, validators, indexes and views, a line each."""
    present = _present(database)
    wanted = {f"validator of collection {one.name}": (one.name, _validation(one)) for one in COLLECTIONS}
    wanted |= {f"view {one.name}": (one.name, _definition(one)) for one in (*VIEWS, *OPERATIONS)}
    found = [
        f"{what} {'differs' if name in present else 'is missing'}"
        for what, (name, options) in wanted.items()
        if not _is_so(present, name, options)
    ]
    for collection in COLLECTIONS:
        if collection.name in present:
            missing = _missing(_indexes_there(database[collection.name]), collection.indexes)
            found += [f"collection {collection.name}: index {index.document['name']} is missing or differs" for index in missing]
    return found


def require(database: Database[Document]) -> None:
    """Raises Differs, which names what does."""
    if found := differences(database):
        raise Differs(f"{'; '.join(found)}: run `python -m tidemark.serving.schema`, or start the stack again (make start)")


def _present(database: Database[Document]) -> dict[str, Document]:
    """Options of the collections and views there are, by name."""
    return {one["name"]: one["options"] for one in database.list_collections()}


def _validation(collection: Collection) -> dict[str, Any]:
    return {"validator": {"$jsonSchema": collection.schema}, "validationLevel": "strict", "validationAction": "error"}


def _definition(view: View) -> dict[str, Any]:
    return {"viewOn": view.on, "pipeline": view.pipeline}


def _is_so(present: Mapping[str, Document], name: str, options: Mapping[str, Any]) -> bool:
    """Is it there, with these options? Compared as BSON, because the order of fields counts."""
    return name in present and bson.encode({key: present[name].get(key) for key in options}) == bson.encode(options)


def _create_or_modify(database: Database[Document], name: str, present: Mapping[str, Document], options: dict[str, Any]) -> None:
    """Creates a collection or view, or brings an existing one to the options; somebody else may be doing the same."""
    if _is_so(present, name, options):
        return
    if name not in present:
        try:
            database.create_collection(name, check_exists=False, **options)
            return
        except OperationFailure as failure:
            if failure.code != _NAMESPACE_EXISTS:
                raise
            log.debug("%s has been created by somebody else", name)
    database.command("collMod", name, **options)


def _index(collection: MongoCollection[Document], wanted: Iterable[IndexModel]) -> None:
    """Creates the indexes that are missing, in place of those that have a wanted one's name or fields and are otherwise; leaves others."""
    there = _indexes_there(collection)
    missing = _missing(there, wanted)
    for index in missing:
        name, (fields, *_) = index.document["name"], _key_of(index.document)
        for former in (former for former, (of, *_) in there.items() if former == name or of == fields):
            try:
                collection.drop_index(former)
            except OperationFailure as failure:
                if failure.code != _INDEX_NOT_FOUND:
                    raise
    if missing:
        collection.create_indexes(missing)


def _indexes_there(collection: MongoCollection[Document]) -> dict[str, Key]:
    return {name: _key_of(one) for name, one in collection.index_information().items()}


def _missing(there: Mapping[str, Key], wanted: Iterable[IndexModel]) -> list[IndexModel]:
    """Those for which there is none of the same fields and kind, whatever its name."""
    return [index for index in wanted if _key_of(index.document) not in there.values()]


def _key_of(index: Mapping[str, Any]) -> Key:
    fields = index["key"]
    return list(fields.items() if isinstance(fields, Mapping) else fields), index.get("unique", False), index.get("expireAfterSeconds")


def _insert_once(database: Database[Document], collection: str, document: Document) -> None:
    database[collection].update_one({"_id": document["_id"]}, {"$setOnInsert": document}, upsert=True)


def main(words: Sequence[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m tidemark.serving.schema", description="Brings a database to the code's collections and views."
    )
    parser.add_argument("--check", action="store_true", help="only tell what differs; exit status 1 where something does")
    check = parser.parse_args(words).check
    with connect() as client:
        database = database_of(client)
        if check:
            found = differences(database)
            for line in found:
                log.error("%s", line)
            log.info("database %s: %d differences", database.name, len(found))
            return int(bool(found))
        prepare(database)
        log.info("database %s is ready: %d collections, %d views", database.name, len(COLLECTIONS), len(VIEWS) + len(OPERATIONS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
