"""Tests of serving/ share one prepared database a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pymongo.database import Database
from support.databases import a_database, emptied

from tidemark.serving.database import Document


@pytest.fixture(scope="module")
def prepared(servers: None, request: pytest.FixtureRequest) -> Iterator[Database[Document]]:
    with a_database(request.path.stem) as found:
        yield found


@pytest.fixture
def database(prepared: Database[Document]) -> Database[Document]:
    return emptied(prepared)
