"""What stands in the way of a start is said before anything is started, each with what to do."""

from __future__ import annotations

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

from local import prerequisites
from local.prerequisites import complaints
from local.programs import mongod


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "ANSWER_SECONDS", 0.5)


def test_nothing_stands_in_the_way(configure) -> None:
    assert complaints(configure()) == []


def test_no_java(configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (said,) = complaints(configure())
    assert said.startswith("java does not run: install Java 17 or newer")


def test_a_java_home_without_java(configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    (said,) = complaints(configure())
    assert said.startswith(f"{tmp_path}/bin/java does not run")
    assert "JAVA_HOME" in said


@pytest.mark.parametrize(("version", "name"), [("11.0.22", "11"), ("1.8.0_292", "1")])
def test_an_old_java(configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, name: str) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2021-04-20' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    (said,) = complaints(configure())
    assert f"is version {name}: install Java 17 or newer" in said


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
def test_a_taken_port(configure, setting: str) -> None:
    of = configure()
    port = getattr(of, setting)
    with _listening(port):
        (said,) = complaints(of)
    assert f"port {port} " in said
    assert f"taken by another program: stop it, or choose another with TIDEMARK_{setting.upper()}=PORT" in said
    assert complaints(of) == []


def test_superset_for_others_needs_secrets(configure) -> None:
    (said,) = complaints(configure(superset_host="0.0.0.0", superset_password="given"))
    assert said == "Superset is to listen on 0.0.0.0: set TIDEMARK_SUPERSET_VIEWER_PASSWORD, TIDEMARK_SUPERSET_SECRET_KEY"
    given = {"superset_password": "a", "superset_viewer_password": "b", "superset_secret_key": "c" * 42}
    assert complaints(configure(superset_host="0.0.0.0", **given)) == []


def test_a_port_taken_on_all_interfaces(configure) -> None:
    of = configure()
    with _listening(of.airflow_port, "0.0.0.0"):
        (said,) = complaints(of)
    assert "TIDEMARK_AIRFLOW_PORT" in said


def test_two_servers_on_one_port(configure) -> None:
    of = configure()
    (said,) = complaints(configure(kafka_port=of.airflow_port, airflow_port=of.airflow_port))
    assert said == f"TIDEMARK_KAFKA_PORT and TIDEMARK_AIRFLOW_PORT are both {of.airflow_port}: choose another port for one of them"


def test_a_home_where_nothing_can_be_written(configure, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (said,) = complaints(configure(home=tmp_path / "file" / "home"))
    assert said == f"nothing can be written to {tmp_path}/file: set TIDEMARK_HOME to a folder of yours"


def test_a_full_disk(configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "LEAST_FREE_MB", 10**9)
    (said,) = complaints(configure())
    assert "1000000000 are needed: free some, or set TIDEMARK_HOME" in said


def test_a_kafka_that_does_not_answer(configure) -> None:
    (port,) = free_ports(1)
    (said,) = complaints(configure(kafka_bootstrap_servers=f"127.0.0.1:{port}"))
    assert said.startswith("Kafka does not answer")
    assert said.endswith(f"TIDEMARK_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{port}")


def test_a_mongodb_that_does_not_answer(configure) -> None:
    (port,) = free_ports(1)
    (said,) = complaints(configure(mongodb_url=f"mongodb://somebody:secret@127.0.0.1:{port}/?replicaSet=theirs"))
    assert said.startswith("MongoDB of TIDEMARK_MONGODB_URL does not answer")
    assert "secret" not in said


@pytest.mark.servers
def test_a_mongodb_without_transactions(configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "ANSWER_SECONDS", 60.0)
    (port,) = free_ports(1)
    folder = tmp_path / "mongodb"
    folder.mkdir()
    command = [str(mongod()), "--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            _wait_for_mongodb(port)
            (said,) = complaints(configure(mongodb_url=f"mongodb://127.0.0.1:{port}"))
        finally:
            server.terminate()
    assert "is no replica set, which transactions need" in said


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


def test_ports_of_the_users_servers_are_not_ours(configure) -> None:
    of = configure(kafka_bootstrap_servers="kafka.example:9092", mongodb_url="mongodb://mongodb.example/?replicaSet=theirs")
    assert set(prerequisites.local_ports(of)) == {"airflow_port", "spark_ui_port", "speed_metrics_port", "api_port", "superset_port"}


@pytest.mark.parametrize(
    ("url", "said"), [("nosuch+driver://127.0.0.1/airflow", "nosuch"), ("sqlite:////no/such/folder/airflow.db", "unable to open database")]
)
def test_a_database_that_airflow_cannot_use(configure, url: str, said: str) -> None:
    (complaint,) = complaints(configure(airflow_database_url=url))
    assert complaint.startswith("the database of TIDEMARK_AIRFLOW_DATABASE_URL cannot be used")
    assert said in complaint


def test_a_database_that_airflow_can_use(configure, tmp_path: Path) -> None:
    assert complaints(configure(airflow_database_url=f"sqlite:///{tmp_path}/airflow.db")) == []
