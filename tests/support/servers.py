"""Real servers for tests, started with the local stack's own commands."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

from kafka.errors import KafkaError
from pymongo.errors import PyMongoError

from ingest import topics
from local.programs import PROGRAMS, Program
from local.replica_set import replica_set
from serving.database import connect
from serving.snapshot import snapshot
from settings import settings

START_SECONDS = 300
PORTS = range(15_000, 27_000)  # below those that Linux gives to who asks for any
# So long MongoDB keeps what a process that was killed has begun. By default a minute, half of what PyMongo tries again for.
TRANSACTION_SECONDS = 10


@dataclass
class Server:
    """One server process, which a test may end and start again."""

    program: Program
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            for preparation in self.program.before:
                if command := preparation():
                    subprocess.run(command, check=True, stdout=log, stderr=log)
            self.process = subprocess.Popen(self.program.command(), stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


@dataclass
class Servers:
    kafka: Server
    mongodb: Server

    def wait(self) -> None:
        """Until both answer."""
        _wait_for(_mongodb_answers, "MongoDB", self.mongodb)
        wait_for_kafka(self.kafka)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, none of them twice in this process.

    Whoever asks Linux for any port, as Spark does all the time, gets none of these: it might be taken before its server starts.
    """
    return [next(_free) for _ in range(count)]


def _free_ports() -> Iterator[int]:
    return (port for port in SystemRandom().sample(PORTS, len(PORTS)) if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_free = _free_ports()


@contextmanager
def running_servers(home: Path) -> Iterator[Servers]:
    """Kafka and MongoDB under that home. Sets the environment's ports, so that this process and its children find them."""
    names = ("KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "MONGODB_PORT", "SPARK_UI_PORT", "SPEED_METRICS_PORT")
    os.environ |= {f"TIDEMARK_{name}": str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
    os.environ["TIDEMARK_MONGODB_CACHE_GB"] = "1"
    settings.cache_clear()
    programs = {program.name: program for program in PROGRAMS}
    servers = Servers(*(Server(programs[name], home / f"{name}.log") for name in ("kafka", "mongodb")))
    try:
        servers.kafka.start()
        servers.mongodb.start()
        servers.wait()
        yield servers
    finally:
        servers.kafka.stop()
        servers.mongodb.stop()


def wait_for_kafka(server: Server) -> None:
    """Until the broker of the settings answers, which is this one."""
    _wait_for(_kafka_answers, "Kafka", server)


def _wait_for(answers: Callable[[], bool], name: str, server: Server) -> None:
    until = time.monotonic() + START_SECONDS
    while not answers():
        ended = server.process is None or server.process.poll() is not None
        if ended or time.monotonic() > until:
            raise RuntimeError(f"{name} has not started:\n{server.log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.2)


def _kafka_answers() -> bool:
    try:
        with topics.admin(within_seconds=2):
            return True
    except (KafkaError, OSError):
        return False


def _mongodb_answers() -> bool:
    try:
        replica_set()
        with connect(within_seconds=2) as client:
            client.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=TRANSACTION_SECONDS)
            # A server that has just started answers before there is a moment that all reads could be of.
            with snapshot(client.admin) as now:
                now.one("system.version")
    except PyMongoError:
        return False
    return True
