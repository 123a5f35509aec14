"""A version of the history's data, used in cache keys so that cached answers never outlive a change."""

from __future__ import annotations

import hashlib
import os
from functools import cache

import bson
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

TIMEOUT_MS = 10_000


def version() -> str:
    """A short text that changes when a day is computed or a category is renamed. Raises PyMongoError if MongoDB does not answer."""
    database = _database()
    made_of = (
        database.history_day.aggregate([{"$group": {"_id": None, "days": {"$sum": 1}, "newest": {"$max": "$computed_at"}}}]),
        database.category.aggregate([{"$group": {"_id": None, "categories": {"$sum": 1}, "newest": {"$max": "$_tide.version"}}}]),
    )
    return hashlib.sha256(bson.encode({"made_of": [list(one) for one in made_of]})).hexdigest()[:16]


@cache
def _database() -> Database[dict[str, object]]:
    client: MongoClient[dict[str, object]] = MongoClient(os.environ["SUPERSET_MONGODB_URL"], serverSelectionTimeoutMS=TIMEOUT_MS)
    return client.get_database(os.environ["SUPERSET_MONGODB_DATABASE"], read_concern=ReadConcern("majority"))
