"""One-time preparation of the servers: `python -m tidemark.local.prepare` with `servers` (replica set, collections, topics), `accounts`
(of MongoDB), `airflow` (database, pools) or `superset` (database, accounts).
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kafka.errors import KafkaError
from pymongo.errors import PyMongoError
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import SQLAlchemyError

from tidemark.ingest import topics
from tidemark.local.accounts import superset_passwords
from tidemark.local.programs import SUPERSET, airflow_command, airflow_environment, superset_environment, superset_module
from tidemark.local.replica_set import replica_set, with_accounts
from tidemark.serving import schema
from tidemark.serving.database import connect, database_of
from tidemark.settings import Settings, settings
from tidemark.settings.airflow_names import Pool
from tidemark.settings.sections import MongodbSettings

POOLS = {
    Pool.INGEST: {"slots": 2, "description": "chunks read and produced in parallel"},
    Pool.SERVED: {"slots": 1, "description": "runs that wait, each occupying a worker, until the stream has served them"},
    Pool.SPARK: {"slots": 1, "description": "parallel Spark batch jobs"},
}
ATTEMPTS = 120  # a second apart

log = logging.getLogger("tidemark.prepare")


def servers(of: Settings) -> None:
    """Creates collections, views and topics once MongoDB and Kafka answer. Raises the error of the last attempt."""
    _retry_until_available(lambda: _servers(of))
    log.info("database %s and topics %s are ready", of.database, ", ".join(of.topics))


def _servers(of: Settings) -> None:
    if not of.mongodb_url:
        replica_set(of.mongodb_port)
    with connect(of.mongodb) as client:
        schema.prepare(database_of(client, of.database))
    topics.create(of)


def accounts(of: MongodbSettings) -> None:
    """Sets up MongoDB's replica set and accounts once it answers. Raises the error of the last attempt."""
    _retry_until_available(lambda: with_accounts(of))
    log.info("MongoDB's accounts are ready")


def _retry_until_available(act: Callable[[], None]) -> None:
    for attempt in range(ATTEMPTS):
        try:
            act()
            return
        except (PyMongoError, KafkaError, OSError) as error:
            if attempt + 1 == ATTEMPTS:
                raise
            log.info("not ready, retrying: %s", str(error).partition(",")[0])
            time.sleep(1)


def airflow(of: Settings) -> None:
    """Migrates Airflow's database and creates the pools. Skipped if already done, because each of Airflow's commands takes seconds.

    Raises subprocess.CalledProcessError.
    """
    environment = airflow_environment(of)
    pools = json.dumps({of.airflow_names.of(name): {**pool, "include_deferred": False} for name, pool in POOLS.items()})
    database = environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    versions = [_version(package) for package in ("apache-airflow", "apache-airflow-providers-fab")]
    known = hashlib.sha256(f"{versions} {database} {pools}".encode()).hexdigest()
    folder = of.home / "airflow"
    stamp = folder / ".prepared"
    if _is_done(stamp, known, database):
        return
    stamp.unlink(missing_ok=True)
    subprocess.run(airflow_command("db", "migrate"), check=True)
    if not of.airflow_database_url:
        with closing(sqlite3.connect(folder / "airflow.db")) as database_file:
            database_file.execute("PRAGMA journal_mode = WAL")  # persistent in the file; readers do not block writers
    file = folder / "pools.json"
    file.write_text(pools)
    subprocess.run(airflow_command("pools", "import", str(file)), check=True)
    stamp.write_text(known)


def _version(package: str) -> str:
    """A package's version; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _is_done(stamp: Path, known: str, database_url: str) -> bool:
    """Has it been prepared as it should be, and is the database still that one? One that was lost is empty, or its file is missing."""
    if not stamp.exists() or stamp.read_text() != known:
        return False
    try:
        engine = create_engine(database_url)
    except ModuleNotFoundError:
        return True  # of Superset, whose environment alone has the driver
    try:
        return inspect(engine).has_table("alembic_version")
    except SQLAlchemyError as error:
        log.info("%s: %s", stamp.parent.name, str(error).partition("\n")[0])
        return False
    finally:
        engine.dispose()


def superset(of: Settings) -> None:
    """Prepares Superset's database and accounts. Skipped if already done, because it takes half a minute.

    Raises subprocess.CalledProcessError.
    """
    environment = superset_environment(of)
    files = (SUPERSET / "tidemark" / "superset" / "prepare.py", SUPERSET / "requirements.lock")
    parts = [*(file.read_text() for file in files), *(environment[name] for name in ("SUPERSET_DATABASE_URL", "SUPERSET_SECRET_KEY"))]
    known = hashlib.sha256("\n".join([*parts, *superset_passwords(of).values()]).encode()).hexdigest()
    folder = of.home / "superset"
    stamp = folder / ".prepared"
    if _is_done(stamp, known, environment["SUPERSET_DATABASE_URL"]):
        return
    folder.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    subprocess.run(superset_module("prepare"), check=True)
    stamp.write_text(known)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    {"servers": servers, "accounts": accounts, "airflow": airflow, "superset": superset}[sys.argv[1]](settings())
    return 0


if __name__ == "__main__":
    sys.exit(main())
