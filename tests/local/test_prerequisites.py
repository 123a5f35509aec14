"""What stands in the way of a start is said before anything is started, each with what to do."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from support.servers import free_ports
from support.wording import Wording

from tidemark.local import prerequisites
from tidemark.local.prerequisites import problems
from tidemark.local.programs import mongod


@pytest.fixture(autouse=True)
def _short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "ANSWER_SECONDS", 0.5)


def test_no_problem_if_all_prerequisites_are_met(configure) -> None:
    assert problems(configure()) == []


def test_a_missing_java(configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wording: Wording) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (message,) = problems(configure())
    wording.check(message)


def test_a_java_home_without_java(configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wording: Wording) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    (message,) = problems(configure())
    wording.check(message)


@pytest.mark.parametrize("version", ["11.0.22", "1.8.0_292"])
def test_an_old_java(configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wording: Wording, version: str) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2021-04-20' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    (message,) = problems(configure())
    wording.check(message)


@contextmanager
def _listening(port: int, address: str = "127.0.0.1") -> Iterator[None]:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((address, port))
        taken.listen()
        yield


@pytest.mark.parametrize(
    "setting",
    ["kafka_port", "kafka_controller_port", "mongodb_port", "airflow_port", "spark_ui_port", "speed_metrics_port", "superset_port"],
)
def test_a_port_in_use(configure, wording: Wording, setting: str) -> None:
    of = configure()
    port = getattr(of, setting)
    with _listening(port):
        (message,) = problems(of)
    wording.check(message, port=port)
    assert problems(of) == []


def test_a_port_in_use_on_all_interfaces(configure) -> None:
    of = configure()
    with _listening(of.airflow_port, "0.0.0.0"):
        (message,) = problems(of)
    assert "TIDEMARK_AIRFLOW_PORT" in message


def test_two_servers_on_one_port(configure, wording: Wording) -> None:
    of = configure()
    (message,) = problems(configure(kafka_port=of.airflow_port, airflow_port=of.airflow_port))
    wording.check(message, port=of.airflow_port)


def test_an_unwritable_home(configure, tmp_path: Path, wording: Wording) -> None:
    (tmp_path / "file").touch()
    (message,) = problems(configure(home=tmp_path / "file" / "home"))
    wording.check(message)


def test_a_full_disk(configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wording: Wording) -> None:
    there = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: there._replace(free=2_000 * 2**20 - 1))
    (message,) = problems(configure())
    wording.check(message)


def test_an_unreachable_kafka(configure, wording: Wording) -> None:
    (port,) = free_ports(1)
    (message,) = problems(configure(kafka_bootstrap_servers=f"127.0.0.1:{port}"))
    wording.check(message, reason=_reason(message), kafka=f"127.0.0.1:{port}")


def test_an_unreachable_mongodb(configure, wording: Wording) -> None:
    (port,) = free_ports(1)
    (message,) = problems(configure(mongodb_url=f"mongodb://somebody:secret@127.0.0.1:{port}/?replicaSet=theirs"))
    assert "secret" not in message
    wording.check(message, reason=_reason(message))


def _reason(message: str) -> str:
    """What the client says, which depends on how far it has come."""
    return message.partition(": ")[2].partition(". ")[0]


@pytest.mark.servers
def test_a_mongodb_without_transactions(configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wording: Wording) -> None:
    monkeypatch.setattr(prerequisites, "ANSWER_SECONDS", 60.0)
    (port,) = free_ports(1)
    folder = tmp_path / "mongodb"
    folder.mkdir()
    command = [str(mongod()), "--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            _wait_for_mongodb(port)
            (message,) = problems(configure(mongodb_url=f"mongodb://127.0.0.1:{port}"))
        finally:
            server.terminate()
    wording.check(message)


def _wait_for_mongodb(port: int) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            with MongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true", serverSelectionTimeoutMS=500) as client:
                client.admin.command("ping")
            return
        except PyMongoError:
            if time.monotonic() > until:
                raise


def test_ports_of_external_servers_are_not_checked(configure) -> None:
    of = configure(kafka_bootstrap_servers="kafka.example:9092", mongodb_url="mongodb://mongodb.example/?replicaSet=theirs")
    assert set(prerequisites.local_ports(of)) == {"airflow_port", "spark_ui_port", "speed_metrics_port", "api_port", "superset_port"}


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("nosuch+driver://127.0.0.1/airflow", id="no such database"),
        pytest.param("sqlite:////no/such/folder/airflow.db", id="no such folder"),
    ],
)
def test_a_database_that_airflow_cannot_use(configure, wording: Wording, url: str) -> None:
    (message,) = problems(configure(airflow_database_url=url))
    wording.check(message)


def test_a_database_that_airflow_can_use(configure, tmp_path: Path) -> None:
    assert problems(configure(airflow_database_url=f"sqlite:///{tmp_path}/airflow.db")) == []
