"""The DAGs as Airflow reads them, in a home of the tests' own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import airflow_home
from support.environment import setting
from support.places import Place

from tidemark.ingest import connections
from tidemark.settings import CHECKOUT

airflow_home.claim()


@pytest.fixture(scope="session")
def dag_bag() -> Any:
    """Every DAG of this checkout, and the errors met on the way."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(CHECKOUT / "dags"))


@pytest.fixture(scope="session")
def database() -> None:
    """Airflow's tables, for tests that run a DAG."""
    airflow_home.make_database()


@pytest.fixture
def connected(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Place]:
    """Airflow's connections are to this place's servers, and runs may read the test's files."""
    for name, value in connections.environment(place.settings).items():
        monkeypatch.setitem(os.environ, name, value)
    with setting(ingest_from=str(tmp_path)):
        yield place
