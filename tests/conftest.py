"""Fixtures that tests of all parts share: one Kafka, one MongoDB and one Spark a session, a database and topics of its own each test."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Before anything reads the settings: tests never touch what a user runs from the same checkout.
for name in [name for name in os.environ if name.startswith("TIDEMARK_")]:
    del os.environ[name]
_HOME = tempfile.TemporaryDirectory(prefix="tidemark-test-")
os.environ["TIDEMARK_HOME"] = _HOME.name
_LONG_LIVED = "-XX:+UseSerialGC"  # of the one JVM that works through most tests
# Tests start many more that do little: optimising their code would cost more than it gains.
os.environ["JAVA_TOOL_OPTIONS"] = f"{_LONG_LIVED} -XX:TieredStopAtLevel=1"

from pymongo.database import Database  # noqa: E402
from pyspark.sql import SparkSession  # noqa: E402
from support.places import Place, a_place  # noqa: E402
from support.servers import Servers, running_servers  # noqa: E402

from serving.database import Document  # noqa: E402

hypothesis.settings.register_profile("shared-machine", deadline=None)  # time on a busy machine says nothing of the code
hypothesis.settings.load_profile("shared-machine")

logging.getLogger("py4j").setLevel(logging.CRITICAL)  # it logs into pytest's closed output when its JVM ends

# Cheap ones first, so that a mistake shows soon.
_ORDER = ("catalog", "protocol", "ingest", "local", "dags", "plugins", "serving", "spark", "path", "faults", "stack", "containers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent

    def rank(item: pytest.Item) -> tuple[bool, int]:
        folder = item.path.relative_to(root).parts[0]
        return item.get_closest_marker("soak") is not None, _ORDER.index(folder) if folder in _ORDER else len(_ORDER)

    items.sort(key=rank)


_failed: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _failed.append(report.nodeid)


def pytest_unconfigure() -> None:
    """The names of what has failed at the very end, where somebody who has only that finds them."""
    for name in _failed:
        sys.__stdout__.write(f"failed: {name}\n")


@pytest.fixture(autouse=True)
def quiet_kafka() -> None:
    """Kafka's client logs every attempt to reach a server that is away. Commands that a test calls set this for the whole process."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """A real Kafka and a real MongoDB on ports of their own."""
    with running_servers(Path(_HOME.name)) as found:
        yield found


@pytest.fixture
def place(servers: Servers) -> Iterator[Place]:
    """A prepared database and topics of this test's own, which the settings name."""
    with a_place(servers) as found:
        yield found


@pytest.fixture
def database(place: Place) -> Database[Document]:
    return place.database


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The session that stream and batch have, in this process."""
    from spark.session import session

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_TOOL_OPTIONS", _LONG_LIVED)
        found = session("tidemark-test", memory="2g")
    yield found
    found.stop()
