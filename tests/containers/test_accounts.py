"""Some of the file's services, run by their own commands: MongoDB's accounts do their work and no more, and the API asks for its key."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from pymongo.errors import OperationFailure
from support.containers import Containers, containers
from support.environment import setting

from tidemark.local import loopback
from tidemark.serving import accounts
from tidemark.serving.database import connect, database_of
from tidemark.serving.operations import OPERATIONS
from tidemark.serving.schema import COLLECTIONS
from tidemark.serving.views import VIEWS

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1800)]

UNAUTHORIZED = 13  # MongoDB's error code


@pytest.fixture(scope="module")
def services() -> Iterator[Containers]:
    with containers("several", TIDEMARK_MONGODB_CACHE_GB="0.5") as made:
        made.start("prepare", "api")
        yield made


@pytest.fixture
def running(services: Containers) -> Iterator[Containers]:
    with setting(**services.settings):
        yield services


def test_an_account_can_write_only_its_own_collections(running: Containers) -> None:
    for account, written in accounts.WRITES.items():
        password = running.variables[f"TIDEMARK_MONGODB_{account.upper()}_PASSWORD"]
        with connect(running.mongodb_url(account, password)) as client:
            database = database_of(client, "tidemark")
            for collection in COLLECTIONS:
                if collection.name in written:
                    assert database[collection.name].delete_many({"_id": "nobody"}).deleted_count == 0
                else:
                    with pytest.raises(OperationFailure) as refused:
                        database[collection.name].delete_many({"_id": "nobody"})
                    assert refused.value.code == UNAUTHORIZED
            for command in ({"dropDatabase": 1}, {"create": "another"}, {"usersInfo": 1}, {"drop": "product"}):
                with pytest.raises(OperationFailure):
                    database.command(command)


def test_the_report_account_can_read_reports_and_write_nothing(running: Containers) -> None:
    password = running.variables["TIDEMARK_MONGODB_REPORTS_PASSWORD"]
    with connect(running.mongodb_url("reports", password)) as client:
        database = database_of(client, "tidemark")
        for view in (*VIEWS, *OPERATIONS):
            list(database[view.name].aggregate([{"$limit": 1}]))
        assert database.product.find_one() is None
        for collection in COLLECTIONS:
            with pytest.raises(OperationFailure) as refused:
                database[collection.name].insert_one({"_id": "nobody"})
            assert refused.value.code == UNAUTHORIZED


def test_without_a_password_nothing_can_be_read(running: Containers) -> None:
    with connect(f"mongodb://{running.address('mongodb', 27017)}/?replicaSet=tidemark") as client, pytest.raises(OperationFailure):
        database_of(client, "tidemark").product.find_one()


def test_the_api_accepts_posts_only_with_its_key(running: Containers) -> None:
    category = {"id": 9_001, "category_name": "Posted"}
    key = running.variables["TIDEMARK_API_KEY"]
    with loopback.client(f"http://{running.address('api', 8000)}", timeout=60) as http:
        assert http.post("/Category", json=category).status_code == httpx.codes.UNAUTHORIZED
        assert http.post("/Category", json=category, headers={"X-API-Key": "another"}).status_code == httpx.codes.UNAUTHORIZED
        assert http.post("/Category", json=category, headers={"X-API-Key": key}).status_code == httpx.codes.CREATED
