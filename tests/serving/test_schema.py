"""Collections, validators, indexes and views: created once, brought to the code, and strict."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Binary, Int64, MinKey
from pymongo.database import Database
from pymongo.errors import WriteError
from support.wording import Wording

from tidemark.catalog.cube import MEASURES
from tidemark.serving import schema
from tidemark.serving.database import Document
from tidemark.serving.operations import OPERATIONS
from tidemark.serving.views import VIEWS

pytestmark = pytest.mark.servers

NOW = datetime(2023, 10, 31, 12, tzinfo=UTC)
CELL = {"category_id": 1, "price_level": 5, "is_best_seller": True}
SUMS = dict.fromkeys(MEASURES, Int64(1))
OFFSET = {"topic": "t", "partition": 0, "offset": 7}
CATEGORY_VERSION = {"registered_at": Int64(1), "position": 0, "partition": 0, "offset": 0}
VERSION = {"observed_at": Int64(1), **CATEGORY_VERSION}
CONTRIBUTION = [1, 5, True, *([1] * len(MEASURES))]

FIGURES = {"products": 4, "average_price": 4.5, "unpriced": 1, "average_stars": None, "unrated": 4, "categories": 1}

# A document of each collection, with the fields that readers rely on.
VALID: dict[str, Document] = {
    "product": {
        "_id": "B0T0000001",
        "asin": "B0T0000001",
        "title": "Backpack",
        "imgUrl": None,
        "productURL": "https://shop.example",
        "stars": 4.5,
        "reviews": 7,
        "price": 5.0,
        "listPrice": 0.0,
        "category_id": 1,
        "isBestSeller": True,
        "boughtInLastMonth": 50,
        "category_name": "Luggage",
        "price_level": 5,
        "date": NOW,
        "_tide": {
            "version": VERSION,
            "contribution": CONTRIBUTION,
            "tag": {"generation": 1, "batch": 0},
            "before": {"version": VERSION, "contribution": CONTRIBUTION},
            "category": None,
        },
    },
    "category": {"_id": 1, "category_name": "Luggage", "_tide": {"version": CATEGORY_VERSION}},
    "cube_cell": {"_id": CELL, **CELL, "category_name": "Luggage", "label": "$0-5", **SUMS},
    "publication": {
        "_id": 1,
        "mark": [OFFSET],
        "published_at": NOW,
        "rules": "r",
        "cut": {"served": 0, "rebuilds": 0, "rebuilding": None, "cells": 0},
        "layers": ["a"],
        "since_full": 0,
        "newest_event": NOW,
        "newest_observation": None,
    },
    "cut_cell": {"_id": {}, "publication": 1, "cell": CELL, **SUMS},
    "publication_cell": {"_id": {}, "publication": 1, "cell": CELL, **SUMS},
    "state": {"_id": "served"},
    "history": {"_id": {}, "day": NOW, "cell": CELL, **SUMS},
    "history_day": {"_id": NOW, "mark": [], "rules": "r", "digest": "00", "computed_at": NOW},
    "quarantine": {
        "_id": "t/0/0",
        "topic": "t",
        "partition": 0,
        "offset": 0,
        "timestamp": NOW,
        "reason": "asin",
        "raw": Binary(b"{}"),
        "source": "api",
        "status": "open",
        "registered_at": 17,
        "position": 0,
        "replayed": {"at": NOW, "by": "a run", "patch": {}, "topic": "t", "partition": 0, "offset": 1},
        "discarded": {"at": NOW, "by": "a run", "why": "test"},
    },
    "ingestion": {
        "_id": "i",
        "kind": "product",
        "name": "a.csv",
        "bytes": 10,
        "rows": 1,
        "content": "00",
        "observed_at": NOW,
        "columns": ["asin"],
        "separator": ",",
        "chunks": 1,
        "file": "/in/a.csv",
        "member": None,
        "registered_at": NOW,
        "reconciled": True,
    },
    "ingestion_chunk": {
        "_id": "i/0",
        "ingestion": "i",
        "number": 0,
        "start": 0,
        "end": 10,
        "rows": 1,
        "content": "00",
        "status": "done",
        "acknowledged": 1,
        "ends": [OFFSET],
    },
    "verification": {
        "_id": 1,
        "at": NOW,
        "drift": 0,
        "compared": {
            "before": {**FIGURES, "average_price": None},
            "after": FIGURES,
            "shifts": {"products": 0.0, "average_price": None, "unpriced": 0.25, "unrated": 0.0, "categories": 0.0},
            "new_cells": 0,
        },
    },
    "withdrawn_posts": {"_id": "api/shop/2024-01-02T00:00:00Z/2024-01-03T00:00:00Z", "by": "ann", "at": NOW, "reason": ""},
    "alert": {"_id": "drift", "text": "2 differences", "began_at": NOW, "ended_at": None, "calm_since": None, "notified": {"mail": True}},
    "stream_minute": {"_id": NOW, "minute": NOW, "micro_batches": 1, "events": 1, "rejected": 0, "busy_milliseconds": 1},
    "size": {"_id": {}, "part": "lake: events", "at": NOW, "bytes": Int64(1), "items": 1},
}

# Values of the right sort that are wrong all the same.
INVALID: list[tuple[str, str, Any]] = [
    ("product", "price", 5),
    ("product", "stars", 4),
    ("product", "reviews", 7.0),
    ("product", "date", "2023-10-31"),
    ("product", "_tide.contribution", CONTRIBUTION[:-1]),
    ("product", "_tide.before", {"version": VERSION}),
    ("product", "_tide.tag", {"generation": -1, "batch": 0}),
    ("category", "_id", "1"),
    ("cube_cell", "products", 1.0),
    ("cube_cell", "_id.category_id", 0),
    ("cube_cell", "_id.price_level", 5.0),
    ("publication", "mark", [{**OFFSET, "offset": -1}]),
    ("publication", "layers", [1]),
    ("publication", "layers", {}),
    ("publication", "cut", []),
    ("cut_cell", "products", 1.0),
    ("quarantine", "status", "closed"),
    ("quarantine", "raw", "{}"),
    ("quarantine", "replayed.offset", -1),
    ("quarantine", "discarded.why", None),
    ("ingestion", "kind", "products"),
    ("ingestion_chunk", "status", "sent"),
    ("verification", "drift", -1),
    ("alert", "_id", "anything"),
    ("alert", "notified", {"mail": "yes"}),
    ("stream_minute", "events", 1.0),
]

UNTYPED = {("verification", "_id")}
MAY_BE_MISSING = {
    ("product", "_tide.category"),
    ("ingestion_chunk", "acknowledged"),
    ("ingestion_chunk", "ends"),
    ("ingestion", "reconciled"),
    *(("quarantine", name) for name in ("registered_at", "position", "replayed", "discarded")),
    ("alert", "notified.mail"),
    ("verification", "compared"),
    ("verification", "compared.new_cells"),
    ("publication", "cut.cells"),
    # Number 0 was not cut from anything.
    *(("publication", name) for name in ("cut", "layers", "since_full", "newest_event", "newest_observation")),
}


def paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Paths of all fields, those inside of objects and arrays of objects as well."""
    fields = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in fields:
        if isinstance(value, dict) or isinstance(inner, dict):
            yield f"{prefix}{name}"
            yield from paths(inner, f"{prefix}{name}.")


def changed(document: Document, path: str, value: Any) -> Document:
    """The document with another value there; without the field where the value is `...`."""
    document = deepcopy(document)
    *outer, last = path.split(".")
    at: Any = document
    for name in outer:
        at = at[int(name)] if isinstance(at, list) else at[name]
    if value is ...:
        del at[int(last) if isinstance(at, list) else last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return document


def accepts(database: Database[Document], collection: str, document: Document) -> bool:
    """Does MongoDB take it? Leaves nothing behind."""
    try:
        database[collection].insert_one(document)
    except WriteError as error:
        if error.code != 121:  # a document that fails validation
            raise
        return False
    database[collection].delete_one({"_id": document["_id"]})
    return True


def everything(database: Database[Document]) -> dict[str, Any]:
    """Options and indexes of all there is."""
    return {
        one["name"]: (one["type"], one["options"], database[one["name"]].index_information() if one["type"] == "collection" else None)
        for one in database.list_collections()
    }


def test_each_validator_accepts_valid_documents_and_refuses_others(database: Database[Document]) -> None:
    assert VALID.keys() == {collection.name for collection in schema.COLLECTIONS}
    database.state.delete_many({})
    taken = []
    for collection, good in VALID.items():
        assert accepts(database, collection, deepcopy(good)), collection
        wrong = [(path, MinKey()) for path in paths(good) if (collection, path) not in UNTYPED]
        wrong += [(path, ...) for path in paths(good) if path != "_id" and (collection, path) not in MAY_BE_MISSING and path[-1] != "0"]
        wrong += [(path, value) for of, path, value in INVALID if of == collection]
        taken += [(collection, path, value) for path, value in wrong if accepts(database, collection, changed(good, path, value))]
    assert taken == []


def test_the_views_are_as_specified(database: Database[Document]) -> None:
    there = {one["name"] for one in database.list_collections(filter={"type": "view"})}
    assert there == {view.name for view in (*VIEWS, *OPERATIONS)}
    assert there >= {
        *("report_cube", "report_price_level", "report_category", "report_summary", "report_history", "report_freshness"),
        "ingestion_progress",
    }


def test_preparing_again_changes_nothing(database: Database[Document]) -> None:
    database.state.update_one({"_id": "ledger"}, {"$set": {"generation": 7}})
    before, documents = everything(database), {name: list(database[name].find()) for name in ("state", "publication")}
    written = {"ns": {"$regex": f"^{database.name}\\."}}
    oplog = database.client.local["oplog.rs"]
    count = oplog.count_documents(written)
    schema.prepare(database)
    assert oplog.count_documents(written) == count
    assert everything(database) == before
    assert {name: list(database[name].find()) for name in documents} == documents


def test_an_older_schema_is_migrated(database: Database[Document], wording: Wording) -> None:
    expected = everything(database)
    database.product.insert_one(deepcopy(VALID["product"]))
    database.command("collMod", "product", validator={})
    database.command("collMod", "category", validationLevel="off")
    database.command("collMod", "report_cube", viewOn="cube_cell", pipeline=[{"$limit": 1}])
    database.drop_collection("report_summary")
    database.drop_collection("verification")
    database.product.drop_index("category_id_1_price_1")
    database.ingestion_chunk.drop_index("ingestion_1_number_1")
    database.ingestion_chunk.create_index(["ingestion", "number"])  # the same name, but not unique
    database.quarantine.drop_index("timestamp_-1")
    database.quarantine.create_index([("timestamp", 1)], name="timestamp_-1")  # the same name, but other fields
    database.product.drop_index("price_1")
    database.product.create_index("price", name="by_price")  # another name, but the same
    database.product.create_index("title", name="of_a_user")
    database.stream_minute.drop_index("minute_1")
    database.stream_minute.create_index("minute", expireAfterSeconds=1)  # the same, but for another time
    before = everything(database)
    wording.check("\n".join(schema.differences(database)), "differences")
    with pytest.raises(schema.SchemaDiffers) as differs:
        schema.require(database)
    wording.check(str(differs.value), "refused")
    assert everything(database) == before, "it has been looked at"
    schema.prepare(database)
    assert schema.differences(database) == []
    found = everything(database)
    indexes = found["product"][2]
    assert indexes.pop("of_a_user")["key"] == [("title", 1)]
    indexes["price_1"] = indexes.pop("by_price")
    assert found == expected
    assert database.product.count_documents({}) == 1
    database.product.drop_index("of_a_user")
    database.product.drop_index("by_price")
    schema.prepare(database)


def test_concurrent_preparation(prepared: Database[Document]) -> None:
    for attempt in range(3):
        fresh = prepared.client.get_database(f"{prepared.name}_{attempt}", write_concern=prepared.write_concern)
        try:
            with ThreadPoolExecutor(4) as pool:
                for done in [pool.submit(schema.prepare, fresh) for _ in range(4)]:
                    done.result()
            assert everything(fresh) == everything(prepared)
            assert {one["_id"] for one in fresh.state.find()} == {"control", "ledger", "sending", "served"}
            assert fresh.publication.count_documents({}) == 1
        finally:
            prepared.client.drop_database(fresh.name)
