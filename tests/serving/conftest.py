"""Tests of serving/ need no topics: one prepared database a file, emptied for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pymongo.database import Database
from support.servers import Servers

from serving import schema
from serving.database import Document, connect, tidemark


@pytest.fixture(scope="module")
def prepared(servers: Servers, request: pytest.FixtureRequest) -> Iterator[Database[Document]]:
    with connect() as client:
        database = tidemark(client, request.module.__name__.rpartition(".")[2])
        schema.prepare(database)
        yield database
        client.drop_database(database.name)


@pytest.fixture
def database(prepared: Database[Document]) -> Database[Document]:
    for collection in schema.COLLECTIONS:
        prepared[collection.name].delete_many({})
    schema.prepare(prepared)
    return prepared
