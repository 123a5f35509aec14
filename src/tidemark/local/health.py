"""Health checks of the servers, for waiting programs and the status. `python -m tidemark.local.health NAME` is the health check of
containers, which also covers programs that only containers run: exit status 1 if the named one is not healthy. With `--end-after SECONDS`
the check ends the processes of its home once it has failed for so long: Docker restarts what has ended, but not what is unhealthy.
"""

from __future__ import annotations

import argparse
import logging
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
from kafka.errors import KafkaError
from pymongo.errors import PyMongoError

from tidemark.ingest import topics
from tidemark.local import loopback, processes
from tidemark.rendering.control import render_pause
from tidemark.serving.database import brief, connect, database_of
from tidemark.serving.operations import MEASURED_RECENTLY
from tidemark.serving.status import state
from tidemark.settings import Settings, settings

TIMEOUT_SECONDS = 5.0
AIRFLOW_TIMEOUT_SECONDS = 15.0  # longer, because its API may be busy

_HTTP = loopback.client(timeout=TIMEOUT_SECONDS)

# The address of each server for display, without passwords.
ADDRESSES: dict[str, Callable[[Settings], str]] = {
    "kafka": lambda of: of.kafka,
    "mongodb": lambda of: re.sub(r"//[^/]*@", "//...@", of.mongodb),
    "airflow": lambda of: of.airflow_api,
    "api": lambda of: of.api_url,
    "superset": lambda of: of.superset_url,
    "speed": lambda of: f"http://127.0.0.1:{of.spark_ui_port}",
    "spark-master": lambda of: f"http://127.0.0.1:{of.spark_master_ui_port}",
    "spark-worker": lambda of: f"http://127.0.0.1:{of.spark_worker_ui_port}",
}


class Health(NamedTuple):
    """`detail` describes the problem, or gives further information."""

    healthy: bool
    url: str
    detail: str = ""


def kafka(of: Settings, *, with_topics: bool = True) -> Health:
    """Does Kafka answer and, with `with_topics`, have the topics?"""
    url = ADDRESSES["kafka"](of)
    try:
        there = topics.partitions(of, TIMEOUT_SECONDS)
    except (KafkaError, OSError) as error:
        return Health(False, url, f"does not answer: {error or type(error).__name__}")
    missing = [topic for topic in of.topics if topic not in there]
    return Health(not (missing and with_topics), url, f"topic {', '.join(missing)} is missing" if missing else "")


def mongodb(of: Settings) -> Health:
    url = ADDRESSES["mongodb"](of)
    try:
        with connect(of.mongodb, within_seconds=TIMEOUT_SECONDS) as client:
            prepared = database_of(client, of.database).state.find_one({"_id": "ledger"}) is not None
    except PyMongoError as error:
        return Health(False, url, f"does not answer: {brief(error)}")
    unprepared = f"database {of.database} is not prepared: run `python -m tidemark.serving.schema`"
    return Health(prepared, url, "" if prepared else unprepared)


def airflow(of: Settings, *, needed: Iterable[str] = ()) -> Health:
    """Airflow's components, as reported by its API. The needed ones must be healthy, by default all."""
    url = ADDRESSES["airflow"](of)
    try:
        answer = _HTTP.get(f"{url}/api/v2/monitor/health", timeout=AIRFLOW_TIMEOUT_SECONDS).raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        return Health(False, url, f"does not answer: {error}")
    parts = {name: (answer.get(name) or {}).get("status") for name in ("metadatabase", "scheduler", "dag_processor", "triggerer")}
    wrong = {name: f"{name} {status or 'not seen yet'}" for name, status in parts.items() if status != "healthy"}
    return Health(wrong.keys().isdisjoint(needed or parts), url, ", ".join(wrong.values()))


def airflow_api(of: Settings) -> Health:
    """Airflow's API only, which its other processes need."""
    return _answering(of, "airflow", "/api/v2/version")


def watch(of: Settings) -> Health:
    """Was the end of the log measured within the last minute?"""
    url = ADDRESSES["mongodb"](of)
    try:
        with connect(of.mongodb, within_seconds=TIMEOUT_SECONDS) as client:
            measured = database_of(client, of.database).report_partition.find_one({"$expr": MEASURED_RECENTLY})
    except PyMongoError as error:
        return Health(False, url, f"does not answer: {brief(error)}")
    return Health(measured is not None, url, "" if measured else "the end of the log was not measured within the last minute")


def speed(of: Settings) -> Health:
    url = ADDRESSES["speed"](of)
    try:
        with connect(of.mongodb, within_seconds=TIMEOUT_SECONDS) as client:
            now = state(database_of(client, of.database))
    except (PyMongoError, LookupError) as error:
        return Health(False, url, f"unknown: {brief(error)}")
    wanted = now["stream"]["control"]
    if wanted["paused"]:
        return Health(True, url, render_pause(wanted["by"], datetime.fromisoformat(wanted["since"]), wanted["reason"]))
    if now["stream"]["alive"]:
        return Health(True, url)
    beat = now["freshness"]["seconds_since_heartbeat"]
    return Health(False, url, "no heartbeat yet" if beat is None else f"no heartbeat for {beat:.0f} s")


def api(of: Settings) -> Health:
    url = ADDRESSES["api"](of)
    try:
        answer = _HTTP.get(f"{url}/health").json()
        return Health(bool(answer["healthy"]), url, str(answer["detail"]))
    except httpx.HTTPError as error:
        return Health(False, url, f"does not answer: {error}")
    except (ValueError, KeyError, TypeError):
        return Health(False, url, "another program uses this port: choose another one with TIDEMARK_API_PORT")


def spark_master(of: Settings) -> Health:
    return _answering(of, "spark-master", "/json/")


def spark_worker(of: Settings) -> Health:
    return _answering(of, "spark-worker", "/json/")


def superset(of: Settings) -> Health:
    return _answering(of, "superset", "/health")


def _answering(of: Settings, name: str, path: str) -> Health:
    """Does a server answer a request for this page?"""
    url = ADDRESSES[name](of)
    try:
        _HTTP.get(f"{url}{path}").raise_for_status()
    except httpx.HTTPError as error:
        return Health(False, url, f"does not answer: {error}")
    return Health(True, url)


CHECKS: dict[str, Callable[[Settings], Health]] = {
    "kafka": kafka,
    "mongodb": mongodb,
    "airflow": airflow,
    "api": api,
    "speed": speed,
    "superset": superset,
}
PARTS: dict[str, Callable[[Settings], Health]] = {
    "broker": partial(kafka, with_topics=False),
    "watch": watch,
    "airflow-api": airflow_api,
    "airflow-scheduler": partial(airflow, needed=("scheduler",)),
    "airflow-dag-processor": partial(airflow, needed=("dag_processor",)),
    "airflow-triggerer": partial(airflow, needed=("triggerer",)),
    "spark-master": spark_master,
    "spark-worker": spark_worker,
}


def end_unhealthy(found: Health, home: Path, after_seconds: float) -> bool:
    """Ends all processes of a home at once if each check since so long has failed. Returns whether it did."""
    failing = home / "run" / "unhealthy"  # since when
    if found.healthy:
        failing.unlink(missing_ok=True)
        return False
    if not failing.exists():
        failing.parent.mkdir(parents=True, exist_ok=True)
        failing.touch()
    if time.time() - failing.stat().st_mtime < after_seconds:
        return False
    failing.unlink()
    for identity in processes.marked(processes.marks(home)):
        processes.send(identity, signal.SIGKILL)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tidemark.local.health", description="Check the health of a program.")
    parser.add_argument("name", choices=sorted({**CHECKS, **PARTS}))
    parser.add_argument("--end-after", type=float, metavar="SECONDS", help="end the program once it has been unhealthy for so long")
    given = parser.parse_args()
    for noisy in ("kafka", "httpx"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    of = settings()
    found = {**CHECKS, **PARTS}[given.name](of)
    sys.stdout.write(f"{found.url} {found.detail or 'healthy'}\n")
    if given.end_after is not None and end_unhealthy(found, of.home, given.end_after):
        sys.stdout.write(f"it was unhealthy for {given.end_after:g} s and has been ended\n")
    return 0 if found.healthy else 1


if __name__ == "__main__":
    sys.exit(main())
