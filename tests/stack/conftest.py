"""One whole stack a session, started as somebody starts it. Its settings are this process's while a test here runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from playwright.sync_api import Page
from support.browser import open_airflow
from support.environment import setting
from support.stacks import Stack, prepared_stack, until, yesterday

_running = ExitStack()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stops the stack behind the last test of this folder: without an __init__.py, scope package would be the session."""
    if nextitem is None or nextitem.path.parent != item.path.parent:
        _running.close()


@pytest.fixture(scope="session")
def started() -> Stack:
    """Started with files for the day that has just ended: its run is due at once."""
    return _running.enter_context(_started())


@contextmanager
def _started() -> Iterator[Stack]:
    with prepared_stack() as made:
        day = yesterday()
        products, categories = made.catalog("days", rows=200, first=day, seed=11)
        categories = categories.rename(categories.with_name(f"categories_{day}.csv"))
        made.add_ingested(day.isoformat(), products=[products], categories=[categories])
        made.local("start")
        due = until(lambda: [one for one in made.runs() if one["run_type"] == "scheduled"], "the scheduler has made a run")
        run = due[0]["dag_run_id"]
        assert made.end_of(run) == "success", made.failure(run)
        yield made


@pytest.fixture(scope="module")
def page(started: Stack) -> Iterator[Page]:
    """Airflow in a browser, as wide as a small screen."""
    with setting(**started.settings), open_airflow(1280) as opened:
        yield opened


@pytest.fixture
def stack(started: Stack) -> Iterator[Stack]:
    with setting(**started.settings):
        yield started
