"""All services of the file, in profile `several`, started once for all tests of a file; each is told nothing but what the file says."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.containers import Containers, containers, missing_programs
from support.environment import setting


@pytest.fixture(scope="module")
def started() -> Iterator[Containers]:
    if missing := missing_programs():
        message = f"Debian's {' and '.join(missing)} are not installed: apt-get install --no-install-recommends {' '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    small = {"TIDEMARK_SPEED_CORES": "1", "TIDEMARK_BATCH_CORES": "2", "TIDEMARK_MONGODB_CACHE_GB": "0.5"}
    with containers("several", **small) as made:
        made.start()
        yield made


@pytest.fixture
def running(started: Containers) -> Iterator[Containers]:
    """With the settings of somebody who looks at it from outside, as MongoDB's and Airflow's admin."""
    with setting(**started.settings):
        yield started
