"""Fixtures: one server for the whole run, and three engines with the same rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fuzz_mongopipe import DATABASE, Bench
from pipe_server import server
from pymongo import MongoClient

import mongopipe


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of a MongoDB server, without a database."""
    with server() as url:
        yield url
        with MongoClient(url) as client:
            client.drop_database(DATABASE)


@pytest.fixture(scope="session")
def bench(server_url: str) -> Bench:
    """mongopipe, DuckDB and SQLite over the same rows."""
    return Bench(server_url, 7)


@pytest.fixture
def connection(bench: Bench, server_url: str) -> Iterator[mongopipe.Connection]:
    """A separate connection to the rows of `bench`."""
    with mongopipe.connect(f"{server_url}/{DATABASE}?max_time_ms=60000") as found:
        yield found


@pytest.fixture
def mongo(server_url: str) -> Iterator[MongoClient[dict[str, object]]]:
    """A client of pymongo, for writes."""
    with MongoClient(server_url) as client:
        yield client
