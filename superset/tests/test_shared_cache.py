"""Of those who look for an answer at once, one asks. Runs in Superset's environment."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask
from flask_caching import Cache

from tidemark.superset import shared_cache

VIEWERS = 12


class Charts:
    """An application whose requests answer from the cache, or ask `asking` and keep what it says."""

    def __init__(self, folder: Path, query: Callable[[], str], redis: str = "") -> None:
        self.app = Flask("charts")
        config = {"CACHE_TYPE": "tidemark.superset.shared_cache.SharedCache", "CACHE_DIR": str(folder), "CACHE_DEFAULT_TIMEOUT": 30}
        config |= {"CACHE_REDIS_URL": redis} if redis else {}
        self.cache = Cache(self.app, config=config)
        self.queries = 0
        self._counting = threading.Lock()

        @self.app.get("/<chart>")
        def answer(chart: str) -> str:
            if found := self.cache.get(chart):
                return str(found)
            with self._counting:
                self.queries += 1
            answer = query()
            self.cache.set(chart, answer)
            return answer

    def request(self, chart: str) -> tuple[int, str]:
        with self.app.test_client() as client:
            answer = client.get(f"/{chart}")
            return answer.status_code, answer.text


def slowly() -> str:
    time.sleep(0.3)
    return "an answer"


def test_concurrent_requests_cost_one_query(tmp_path: Path) -> None:
    charts = Charts(tmp_path, slowly)
    with ThreadPoolExecutor(VIEWERS) as pool:
        answers = list(pool.map(charts.request, ["a"] * VIEWERS))
    assert answers == [(200, "an answer")] * VIEWERS
    assert charts.queries == 1


def _request_in_process(folder: Path, queries: list[int]) -> None:
    charts = Charts(folder, slowly)
    with ThreadPoolExecutor(VIEWERS) as pool:
        answers = list(pool.map(charts.request, ["a", "b"] * VIEWERS))
    assert answers == [(200, "an answer")] * len(answers)
    queries.append(charts.queries)


def test_concurrent_requests_of_several_processes_cost_one_query(tmp_path: Path) -> None:
    with multiprocessing.Manager() as manager:
        queries = manager.list()
        processes = [multiprocessing.Process(target=_request_in_process, args=(tmp_path / "answers", queries)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert len(queries) == 3
        assert sum(queries) == 2  # one for each chart


def test_a_request_does_not_wait_for_another_chart(tmp_path: Path) -> None:
    charts = Charts(tmp_path, slowly)
    with ThreadPoolExecutor(VIEWERS) as pool:
        list(pool.map(charts.request, ["a", "b", "c"] * (VIEWERS // 3)))
    assert charts.queries == 3


def test_a_failed_query_is_repeated_by_another_request(tmp_path: Path) -> None:
    failures = iter([True, True, False])

    def query() -> str:
        time.sleep(0.1)
        if next(failures):
            raise RuntimeError("MongoDB does not answer")
        return "an answer"

    charts = Charts(tmp_path, query)
    with ThreadPoolExecutor(VIEWERS) as pool:
        answers = list(pool.map(charts.request, ["a"] * VIEWERS))
    assert sorted(status for status, _ in answers) == [200] * (VIEWERS - 2) + [500] * 2
    assert charts.queries == 3


def test_the_lock_of_a_dead_process_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_cache, "WAIT_SECONDS", 1)
    charts = Charts(tmp_path, slowly)
    with charts.app.test_request_context():
        assert charts.cache.get("a") is None  # and never says more
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(charts.request, "a").result() == (200, "an answer")
            time.sleep(2)
            monkeypatch.setattr(shared_cache, "WAIT_SECONDS", 60)
            charts.cache.delete("a")
            started = time.monotonic()
            assert pool.submit(charts.request, "a").result() == (200, "an answer")
            assert time.monotonic() - started < 30  # its claim of before is void


def test_outside_a_request_it_is_an_ordinary_cache(tmp_path: Path) -> None:
    charts = Charts(tmp_path, slowly)
    with charts.app.app_context():
        assert charts.cache.get("a") is None
        assert charts.cache.get("a") is None
        charts.cache.set("a", 1)
        assert charts.cache.get("a") == 1
        charts.cache.delete("a")
        assert not charts.cache.has("a")


def test_without_redis_everybody_queries(tmp_path: Path) -> None:
    """As if nothing were in the cache; pages go on."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        charts = Charts(tmp_path, lambda: "an answer", redis=f"redis://127.0.0.1:{closed.getsockname()[1]}/0")
        assert [charts.request("a") for _ in range(3)] == [(200, "an answer")] * 3
    assert charts.queries == 3
