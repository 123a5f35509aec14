"""Real servers for tests, started with the local stack's own commands."""

from __future__ import annotations

import os
import signal
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
from pymongo.uri_parser import parse_uri

from tidemark.ingest import topics
from tidemark.local.programs import PROGRAMS, Program
from tidemark.local.replica_set import replica_set
from tidemark.serving.database import connect
from tidemark.serving.snapshot import snapshot
from tidemark.settings import Settings

START_SECONDS = 300
PORTS = range(15_000, 27_000)  # below those that Linux gives to who asks for any
PROCESSES = 5  # of one test run, at most, each of which has ports of its own: pytest's own and its workers
# So long MongoDB keeps what a process that was killed has begun. By default a minute, half of what PyMongo tries again for.
TRANSACTION_SECONDS = 10


@dataclass
class Server:
    """One server process, which a test may end and start again."""

    program: Program
    log: Path
    of: Settings
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """With the data and at the address of its settings."""
        with self.log.open("ab") as log:
            for preparation in self.program.before:
                if command := preparation(self.of):
                    subprocess.run(command, check=True, stdout=log, stderr=log)
            self.process = subprocess.Popen(self.program.command(self.of), stdout=log, stderr=log)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process and self.is_running:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


class GivenServer(Server):
    """One that somebody else runs: it is neither started nor stopped."""

    def start(self) -> None:
        pass

    @property
    def is_running(self) -> bool:
        return True

    def stop(self) -> None:
        pass


@dataclass(frozen=True)
class Servers:
    """Kafka and MongoDB, and the settings that name them: the home with their data, and their ports."""

    settings: dict[str, str]
    kafka: Server
    mongodb: Server

    def wait(self) -> None:
        """Until both answer at the addresses of the settings."""
        wait_for_mongodb(self.mongodb.of, self.mongodb.log, self.mongodb)
        wait_for_kafka(self.kafka.of, self.kafka.log, self.kafka)

    def restart(self) -> None:
        """Starts again what a test has left stopped or stalled."""
        for server in (self.mongodb, self.kafka):
            if server.is_running:
                server.signal(signal.SIGCONT)
            else:
                server.start()
        self.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, none of them twice in this test run.

    Whoever asks Linux for any port, as Spark does all the time, gets none of these: it might be taken before its server starts.
    """
    return [next(_free) for _ in range(count)]


def _free_ports() -> Iterator[int]:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")  # gw0, gw1, ...
    mine = PORTS[int(worker.removeprefix("gw")) + 1 if worker else 0 :: PROCESSES]
    return (port for port in SystemRandom().sample(mine, len(mine)) if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_free = _free_ports()


@contextmanager
def running_servers(home: Path, mongodb_url: str = "") -> Iterator[Servers]:
    """Kafka and MongoDB with their data under that home, or the replica set of that URL. They are started, and may not answer yet."""
    names = ("kafka_port", "kafka_controller_port", "mongodb_port")
    own = {"home": str(home), "mongodb_cache_gb": "1", **dict(zip(names, map(str, free_ports(len(names))), strict=True))}
    if mongodb_url:
        ((_, port), *_) = parse_uri(mongodb_url)["nodelist"]
        own |= {"mongodb_url": mongodb_url, "mongodb_port": str(port)}
    of, programs = Settings(**own), {program.name: program for program in PROGRAMS}
    kafka = Server(programs["kafka"], home / "kafka.log", of)
    mongodb = (GivenServer if mongodb_url else Server)(programs["mongodb"], home / "mongodb.log", of)
    try:
        kafka.start()
        mongodb.start()
        yield Servers(own, kafka, mongodb)
    finally:
        kafka.stop()
        mongodb.stop()


def wait_for_kafka(of: Settings, log: Path, server: Server | None = None) -> None:
    """Until the broker of the settings answers, which writes that log and may be this process's own."""
    _wait_for(lambda: _kafka_answers(of), "Kafka", log, server)


def wait_for_mongodb(of: Settings, log: Path, server: Server | None = None) -> None:
    """The same of MongoDB."""
    _wait_for(lambda: _mongodb_answers(of), "MongoDB", log, server)


def _wait_for(answers: Callable[[], bool], name: str, log: Path, server: Server | None) -> None:
    until = time.monotonic() + START_SECONDS
    while not answers():
        ended = server is not None and not server.is_running
        if ended or time.monotonic() > until:
            said = log.read_text(errors="replace")[-3000:] if log.exists() else "it is the one that was given"
            raise RuntimeError(f"{name} has not started:\n{said}")
        time.sleep(0.2)


def _kafka_answers(of: Settings) -> bool:
    try:
        with topics.admin(of, within_seconds=2):
            return True
    except (KafkaError, OSError):
        return False


def _mongodb_answers(of: Settings) -> bool:
    try:
        if not of.mongodb_url:
            replica_set(of.mongodb_port)
        with connect(of.mongodb, within_seconds=2) as client:
            client.admin.command("setParameter", 1, transactionLifetimeLimitSeconds=TRANSACTION_SECONDS)
            # A server that has just started answers before there is a moment that all reads could be of.
            with snapshot(client.admin) as now:
                now.one("system.version")
    except PyMongoError:
        return False
    return True
