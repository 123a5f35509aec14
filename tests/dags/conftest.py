"""The DAGs as Airflow reads them, in a home of the tests' own."""

from __future__ import annotations

from typing import Any

import pytest
from support import airflow_home

from settings import CHECKOUT

airflow_home.claim()


@pytest.fixture(scope="session")
def bag() -> Any:
    """Every DAG of this checkout, and the errors met on the way."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(CHECKOUT / "dags"))


@pytest.fixture(scope="session")
def database() -> None:
    """Airflow's tables, for tests that run a DAG."""
    airflow_home.make_database()
