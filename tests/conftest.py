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
for name in [name for name in os.environ if name.startswith("TIDEMARK_") and name != "TIDEMARK_TEST_MONGODB"]:
    del os.environ[name]
_HOME = tempfile.TemporaryDirectory(prefix="tidemark-test-")
os.environ["TIDEMARK_HOME"] = _HOME.name
os.environ["TIDEMARK_BATCH_IDLE_SECONDS"] = "0"  # no process of a batch job outlives its test
# Of the one JVM that works through most tests. Its optimising compiler begins late: by default it takes a third of the JVM's CPU time.
_LONG_LIVED = "-XX:+UseSerialGC -XX:Tier4InvocationThreshold=20000 -XX:Tier4MinInvocationThreshold=5000 -XX:Tier4CompileThreshold=60000"
# Tests start many more that do little: optimising their code would cost more than it gains.
os.environ["JAVA_TOOL_OPTIONS"] = f"{_LONG_LIVED} -XX:TieredStopAtLevel=1"

import soak  # noqa: E402
from pymongo.database import Database  # noqa: E402
from pyspark.sql import SparkSession  # noqa: E402
from support import workers  # noqa: E402
from support.environment import setting  # noqa: E402
from support.places import Place, a_place  # noqa: E402
from support.servers import Servers, running_servers  # noqa: E402
from support.wording import OPTION, Wording  # noqa: E402

from tidemark.serving.database import Document  # noqa: E402
from tidemark.settings import settings  # noqa: E402

hypothesis.settings.register_profile("shared-machine", deadline=None)  # time on a busy machine says nothing of the code
hypothesis.settings.load_profile("shared-machine")

logging.getLogger("py4j").setLevel(logging.CRITICAL)  # it logs into pytest's closed output when its JVM ends

# Cheap ones first, so that a mistake shows soon. Workers begin with what takes longest, so that none is left with it in the end.
_ORDER = ("catalog", "protocol", "ingest", "local", "dags", "plugins", "serving", "spark", "path", "faults", "stack", "containers")
_ORDER_OF_WORKERS = ("stack", "spark", "path", "faults", "containers", "ingest", "dags", "serving", "local", "plugins")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, action="store_true", help="write what people read to the files of tests/wording instead of comparing it")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(workers.Sharing())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    root = Path(__file__).parent
    order = _ORDER_OF_WORKERS if hasattr(config, "workerinput") else _ORDER

    def rank(item: pytest.Item) -> tuple[bool, int]:
        folder = item.path.relative_to(root).parts[0]
        return item.get_closest_marker("soak") is not None, order.index(folder) if folder in order else len(order)

    items.sort(key=rank)
    for item in items:
        for mark in item.iter_markers("soak"):
            if mark.kwargs.get("proof") not in soak.NAMES:
                raise pytest.UsageError(f"{item.nodeid} is of no soak proof that tests/soak.py names: {mark.kwargs.get('proof')}")


_failed: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _failed.append(report.nodeid)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The names of what has failed at the very end, where somebody who has only that finds them."""
    if not hasattr(config, "workerinput"):
        for name in _failed:
            sys.__stdout__.write(f"failed: {name}\n")


@pytest.fixture(autouse=True)
def quiet_kafka() -> None:
    """Kafka's client logs every attempt to reach a server that is away. Commands that a test calls set this for the whole process."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


@pytest.fixture
def wording(request: pytest.FixtureRequest) -> Wording:
    """What people read, compared with the files of tests/wording."""
    return Wording(request)


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Iterator[None]:
    """A real Kafka and a real MongoDB, which the settings name. All workers of a test run share them, so no test may stop them."""
    with workers.shared_servers(request.config, Path(_HOME.name)):
        yield


@pytest.fixture(scope="session")
def fallible_servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="tidemark-fallible-") as home, running_servers(Path(home)) as found:
        yield found


@pytest.fixture
def fallible(fallible_servers: Servers) -> Iterator[Servers]:
    """Another Kafka and MongoDB, which the settings name while the test runs and which it may stop, kill and stall."""
    with setting(**fallible_servers.settings):
        fallible_servers.wait()
        yield fallible_servers
        fallible_servers.restart()


@pytest.fixture
def place(servers: None) -> Iterator[Place]:
    """A prepared database and topics of this test's own, which the settings name."""
    with a_place() as found:
        yield found


@pytest.fixture
def fallible_place(fallible: Servers) -> Iterator[Place]:
    """The same on servers that fail."""
    with a_place() as found:
        yield found


@pytest.fixture
def database(place: Place) -> Database[Document]:
    return place.database


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The session that stream and batch have, in this process."""
    from tidemark.spark.session import session

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_TOOL_OPTIONS", _LONG_LIVED)
        found = session("tidemark-test", settings(), memory="2g")
    yield found
    found.stop()
