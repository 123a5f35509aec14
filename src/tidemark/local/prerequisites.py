"""The prerequisites of the local stack, checked before anything is started."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

from kafka.errors import KafkaError
from pymongo.errors import PyMongoError
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from tidemark.ingest import topics
from tidemark.serving.database import connect
from tidemark.settings import Settings, java
from tidemark.settings.sections import KafkaSettings

MIN_JAVA = 17
MIN_FREE_MB = 2_000
ANSWER_SECONDS = 5.0  # timeout of a server that the user runs

# The settings whose ports the local stack listens on, with the server of each.
_PORTS = {
    "kafka_port": "Kafka",
    "kafka_controller_port": "Kafka's controller",
    "mongodb_port": "MongoDB",
    "airflow_port": "Airflow",
    "spark_ui_port": "the stream's Spark pages",
    "speed_metrics_port": "the stream's metrics",
    "api_port": "the HTTP API",
    "superset_port": "Superset",
}


def local_ports(of: Settings) -> dict[str, int]:
    """The ports of the servers that this configuration starts locally, by setting."""
    external = {
        "kafka_port": of.kafka_bootstrap_servers,
        "kafka_controller_port": of.kafka_bootstrap_servers,
        "mongodb_port": of.mongodb_url,
    }
    return {name: getattr(of, name) for name in _PORTS if not external.get(name)}


def problems(of: Settings) -> list[str]:
    """The missing prerequisites, each with its remedy; empty if there are none. For a stack that is not running yet."""
    return [*_java_problems(), *_home_problems(of.home), *_port_problems(of), *_server_problems(of)]


def _java_problems() -> list[str]:
    advice = f"install Java {MIN_JAVA} or newer (apt install openjdk-17-jre-headless), or set JAVA_HOME"
    try:
        output = subprocess.run([java(), "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        return [f"{java()} does not run: {advice}"]
    version = re.search(r'version "(\d+)', output)
    if version is None or int(version[1]) < MIN_JAVA:
        return [f"{java()} is version {version[1] if version else 'unknown'}: {advice}"]
    return []


def _home_problems(home: Path) -> list[str]:
    there = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return [f"{there} is not writable: set TIDEMARK_HOME to a folder that is"]
    free = shutil.disk_usage(there).free // 2**20
    if free < MIN_FREE_MB:
        return [f"{there} has {free} MB free, {MIN_FREE_MB} MB are needed: free some space, or set TIDEMARK_HOME to another disk"]
    return []


def _port_problems(of: Settings) -> list[str]:
    found = []
    ports = local_ports(of)
    for name, port in ports.items():
        same = [other for other, number in ports.items() if number == port and other < name]
        variable = f"TIDEMARK_{name.upper()}"
        if same:
            found.append(f"{variable} and TIDEMARK_{same[0].upper()} are both {port}: choose another port for one of them")
        elif _port_in_use(port):
            found.append(f"port {port} ({_PORTS[name]}) is used by another program: stop it, or choose another with {variable}=PORT")
    return found


def _port_in_use(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            there.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _server_problems(of: Settings) -> list[str]:
    """Problems with the servers that the user runs. The texts contain no passwords."""
    found = []
    if of.kafka_bootstrap_servers and (wrong := _kafka_problem(of)):
        found.append(f"Kafka does not answer: {wrong}. Start it, or correct TIDEMARK_KAFKA_BOOTSTRAP_SERVERS={of.kafka_bootstrap_servers}")
    if of.mongodb_url and (wrong := _mongodb_problem(of.mongodb_url)):
        found.append(f"MongoDB of TIDEMARK_MONGODB_URL {wrong}")
    if of.airflow_database_url and (wrong := _database_problem(of.airflow_database_url)):
        found.append(f"the database of TIDEMARK_AIRFLOW_DATABASE_URL cannot be used: {wrong}")
    return found


def _kafka_problem(of: KafkaSettings) -> str | None:
    try:
        with topics.admin(of, ANSWER_SECONDS):
            return None
    except (KafkaError, OSError, ValueError) as error:
        return str(error)


def _mongodb_problem(url: str) -> str | None:
    try:
        with connect(url, within_seconds=ANSWER_SECONDS) as client:
            hello = client.admin.command("hello")
    except PyMongoError as error:
        return f"does not answer: {str(error).partition(' (configured')[0]}. Start it, or correct the URL"
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        return "is not a replica set, which transactions require: start it with --replSet and call rs.initiate() once (one node is enough)"
    return None


def _database_problem(url: str) -> str | None:
    try:
        engine = create_engine(url)
        engine.connect().close()
        engine.dispose()
    except ModuleNotFoundError as error:
        return f"its driver {error.name} is not installed. For PostgreSQL use postgresql+psycopg2://USER:PASSWORD@HOST/DATABASE"
    except SQLAlchemyError as error:
        return str(error).partition("\n")[0]
    return None
