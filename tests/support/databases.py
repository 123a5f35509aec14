"""A prepared database for many tests, emptied for each: what needs no topics need not wait for any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.database import Database

from tidemark.serving import schema
from tidemark.serving.database import Document, connect, database_of
from tidemark.settings import settings


@contextmanager
def connected() -> Iterator[Database[Document]]:
    """The database of the settings, as it is."""
    of = settings()
    with connect(of.mongodb) as client:
        yield database_of(client, of.database)


@contextmanager
def a_database(name: str) -> Iterator[Database[Document]]:
    with connect(settings().mongodb) as client:
        database = database_of(client, name)
        schema.prepare(database)
        yield database
        client.drop_database(name)


def emptied(database: Database[Document]) -> Database[Document]:
    """The database as it was when it was prepared."""
    for collection in schema.COLLECTIONS:
        database[collection.name].delete_many({})
    schema.prepare(database)
    return database
