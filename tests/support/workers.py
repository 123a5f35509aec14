"""Workers of one test run (pytest-xdist): they share Kafka and MongoDB, and each takes whole files, or all that is done with one stack."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.environment import setting
from support.servers import free_ports, running_servers, wait_for_kafka, wait_for_mongodb
from xdist.scheduler.loadscope import LoadScopeScheduling

# Folders whose tests share what is dear to start: a stack, Spark's session with code that it has compiled.
TOGETHER = {"stack": "stack", "spark": "spark", "path": "path"}

MONGODB = "TIDEMARK_TEST_MONGODB"  # environment variable

_started = ExitStack()


class Scheduling(LoadScopeScheduling):
    """In the order in which tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return TOGETHER.get(file.split("/")[1], file)


class Sharing:
    """What pytest's own process does where workers run its tests."""

    def __init__(self) -> None:
        self._servers: dict[str, Any] = {}

    @pytest.hookimpl
    def pytest_configure_node(self, node: Any) -> None:
        """Starts the servers before the first worker; it tells each where they are."""
        if not self._servers:
            home = Path(_started.enter_context(tempfile.TemporaryDirectory(prefix="tidemark-servers-")))
            found = _started.enter_context(running_servers(home, given_mongodb()))
            logs = {"kafka": str(found.kafka.log), "mongodb": str(found.mongodb.log)}
            self._servers = {"settings": {name: value for name, value in found.settings.items() if name != "home"}, "logs": logs}
        node.workerinput["servers"] = self._servers

    @pytest.hookimpl
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Scheduling:
        config.option.loadscopereorder = False
        return Scheduling(config, log)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        _started.close()


def given_mongodb() -> str:
    """The URL of a replica set that is to be used instead of an own one; empty is none."""
    return os.environ.get(MONGODB, "")


@contextmanager
def shared_servers(config: pytest.Config, home: Path) -> Iterator[None]:
    """The servers of this test run, which the settings name: those that pytest's own process has started, or if it has none, new ones."""
    passed = getattr(config, "workerinput", {}).get("servers")
    own = dict(zip(("spark_ui_port", "speed_metrics_port"), map(str, free_ports(2)), strict=True))
    if passed is not None:
        with setting(**passed["settings"], **own) as of:
            wait_for_mongodb(of, Path(passed["logs"]["mongodb"]))
            wait_for_kafka(of, Path(passed["logs"]["kafka"]))
            yield
        return
    with running_servers(home, given_mongodb()) as servers, setting(**servers.settings, **own):
        servers.wait()
        yield
