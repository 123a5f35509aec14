"""The cached state for pages: a timely answer, also if MongoDB is away."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from pymongo.database import Database
from support.proxy import proxy
from support.servers import free_ports
from support.wording import Wording

from tidemark.serving import cached_status
from tidemark.serving.cached_status import CachedStatus
from tidemark.serving.database import Document
from tidemark.settings.sections import MongodbSettings

pytestmark = pytest.mark.servers


@pytest.fixture(autouse=True)
def long_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the first answer takes its time."""
    monkeypatch.setattr(cached_status, "MAX_SECONDS", 30)


def test_concurrent_readers_cost_one_query(database: Database[Document]) -> None:
    shared = CachedStatus(MongodbSettings(database=database.name))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: shared.now(), range(8)))
    assert all(one is found[0] for one in found)
    assert (found[0].state or {})["freshness"]["publication"] == 0
    assert found[0].problem is None


def test_an_unreachable_mongodb_is_named(monkeypatch: pytest.MonkeyPatch, wording: Wording) -> None:
    monkeypatch.setattr(cached_status, "MAX_SECONDS", 0.3)
    (port,) = free_ports(1)
    found = CachedStatus(MongodbSettings(mongodb_url=f"mongodb://somebody:secret@127.0.0.1:{port}/?replicaSet=tidemark")).now()
    assert found.state is None
    wording.check(found.problem or "", port=port)


def test_a_mongodb_that_stops_responding_blocks_one_reader_and_recovers(
    database: Database[Document], monkeypatch: pytest.MonkeyPatch, wording: Wording
) -> None:
    monkeypatch.setattr(cached_status, "MAX_SECONDS", 8)
    monkeypatch.setattr(cached_status, "FRESH_SECONDS", 0)
    with proxy() as between:
        shared = CachedStatus(MongodbSettings(database=database.name, mongodb_url=between.url))
        before = shared.now()
        assert before.problem is None
        silent = threading.Event()
        between.meanwhile("aggregate", lambda: silent.set() or time.sleep(20))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(shared.now)
            assert silent.wait(20)
            assert shared.now() is before, "who comes meanwhile does not wait"
            wording.check(waiting.result().problem or "", port=urlsplit(between.url).port)
        assert shared.now().problem is None


def test_an_unprepared_database_is_named(database: Database[Document]) -> None:
    found = CachedStatus(MongodbSettings(database="nothing_here")).now()
    assert found.state is None
    assert "nothing_here" in (found.problem or "")
    assert "python -m tidemark.serving.schema" in (found.problem or "")
