"""A replica set of three mongods, any of which a test may end, step down and start again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, PyMongoError
from support.environment import setting
from support.servers import TRANSACTION_SECONDS, Server, free_ports

from tidemark.local.programs import PROGRAMS
from tidemark.settings import settings

NAME = "tidemark"
_SECONDS = 120


@dataclass(frozen=True)
class ReplicaSet:
    """Its servers, by port."""

    servers: dict[int, Server]

    @property
    def url(self) -> str:
        return f"mongodb://{','.join(f'127.0.0.1:{port}' for port in self.servers)}/?replicaSet={NAME}"

    def primary(self) -> int:
        """The port of the primary, as soon as there is one."""
        with MongoClient[dict[str, Any]](self.url, serverSelectionTimeoutMS=_SECONDS * 1000) as client:
            client.admin.command("ping")
            assert client.address is not None
            return client.address[1]

    def step_down(self) -> None:
        """The primary makes room for another."""
        with _client(self.primary()) as client:
            try:
                client.admin.command("replSetStepDown", 30, secondaryCatchUpPeriodSecs=10)
            except AutoReconnect:
                return  # older servers close their connections

    def kill_primary(self) -> int:
        """kill -9; the port of who was it."""
        port = self.primary()
        self.servers[port].kill()
        return port

    def start(self, port: int) -> None:
        """Starts one again, and waits until it is a secondary or the primary."""
        self.servers[port].start()
        _wait_for_state(port, "PRIMARY", "SECONDARY")

    def log_all_commands(self) -> None:
        """From now on each server logs every command."""
        for port in self.servers:
            with _client(port) as client:
                client.admin.command("profile", 0, slowms=-1)

    def commands(self) -> Iterator[dict[str, Any]]:
        """The commands that have been logged, of Tidemark's own clients."""
        for server in self.servers.values():
            for line in server.log.read_text(errors="replace").splitlines():
                if '"Slow query"' in line and '"appName":"tidemark"' in line:
                    attributes = json.loads(line)["attr"]
                    if attributes["type"] == "command":
                        yield attributes["command"]

    def mend(self) -> None:
        """Starts again those that do not run."""
        for port, server in self.servers.items():
            if not server.is_running:
                self.start(port)


@contextmanager
def three_mongods(home: Path, election_seconds: float = 10) -> Iterator[ReplicaSet]:
    """All of them answer, one is the primary, and the settings name them. Without a primary they hold an election after that long."""
    (program,) = [one for one in PROGRAMS if one.name == "mongodb"]
    ports = free_ports(3)
    with ExitStack() as stack:
        servers = {}
        for port in ports:
            of = settings().model_copy(update={"home": home / str(port), "mongodb_port": port})
            of.home.mkdir(parents=True)
            command = [*program.command(of), "--setParameter", f"transactionLifetimeLimitSeconds={TRANSACTION_SECONDS}"]
            command[command.index("--wiredTigerCacheSizeGB") + 1] = "0.25"
            server = Server(replace(program, command=lambda _, command=command: command), home / f"{port}.log", of)
            stack.callback(server.kill)  # a primary that is told to stop waits for its clients
            server.start()
            servers[port] = server
        found = ReplicaSet(servers)
        _initiate(ports, election_seconds)
        with setting(mongodb_url=found.url):
            for port in ports:
                _wait_for_state(port, "PRIMARY", "SECONDARY")
            yield found


def _initiate(ports: list[int], election_seconds: float) -> None:
    milliseconds = round(election_seconds * 1000)
    configuration = {
        "_id": NAME,
        "members": [{"_id": number, "host": f"127.0.0.1:{port}"} for number, port in enumerate(ports)],
        "settings": {"electionTimeoutMillis": milliseconds, "heartbeatIntervalMillis": max(200, milliseconds // 5)},
    }
    for port in ports:
        _wait_for(lambda port=port: _ping(port), f"mongod at {port} does not answer")
    with _client(ports[0]) as client:
        client.admin.command("replSetInitiate", configuration)


def _client(port: int) -> MongoClient[dict[str, Any]]:
    return MongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true", serverSelectionTimeoutMS=2_000)


def _ping(port: int) -> bool:
    with _client(port) as client:
        client.admin.command("ping")
    return True


def _wait_for_state(port: int, *states: str) -> None:
    def is_there() -> bool:
        with _client(port) as client:
            members = client.admin.command("replSetGetStatus")["members"]
            return any(one.get("self") and one["stateStr"] in states for one in members)

    _wait_for(is_there, f"mongod at {port} is not {' or '.join(states)}")


def _wait_for(what: Any, otherwise: str) -> None:
    until = time.monotonic() + _SECONDS
    while True:
        try:
            if what():
                return
        except PyMongoError:
            pass
        if time.monotonic() > until:
            raise AssertionError(otherwise)
        time.sleep(0.1)
