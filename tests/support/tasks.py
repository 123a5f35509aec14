"""Runs as the DAG's tasks make them, through Airflow's hooks and paths: `python tasks.py RUNS`.

RUNS is a JSON list of [day, parameters, chunk size]. Prints the plan of each run as JSON. Servers, topics and patterns are those of
the environment's settings.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def run(day: str | None, parameters: dict[str, Any], chunk_bytes: int) -> dict[str, Any]:
    """All tasks of a run, one after another; its plan."""
    from airflow.providers.apache.kafka.hooks.produce import KafkaProducerHook
    from airflow.providers.mongo.hooks.mongo import MongoHook
    from airflow.sdk import ObjectStoragePath

    from tidemark.ingest import jobs
    from tidemark.serving.database import database_of
    from tidemark.settings import settings
    from tidemark.settings.airflow_names import Connection

    of = settings()
    files, names = jobs.files_of(day, parameters, of, ObjectStoragePath), of.airflow_names
    with MongoHook(names.of(Connection.MONGODB)) as mongo:
        # What one task hands to the next goes through JSON.
        planned: dict[str, Any] = json.loads(
            json.dumps(jobs.plan(database_of(mongo.get_conn(), of.database), files, chunk_bytes, of)._asdict())
        )
    for chunk in planned["chunks"]:
        kafka = KafkaProducerHook(names.of(Connection.KAFKA))
        configuration = kafka.get_connection(names.of(Connection.KAFKA)).extra_dejson
        with MongoHook(names.of(Connection.MONGODB)) as mongo:
            jobs.produce(database_of(mongo.get_conn(), of.database), kafka.get_producer, configuration, ObjectStoragePath, of, **chunk)
    with MongoHook(names.of(Connection.MONGODB)) as mongo:
        jobs.reconcile(database_of(mongo.get_conn(), of.database), planned["ingestions"], of)
    return planned


if __name__ == "__main__":
    plans = [run(*one) for one in json.loads(sys.argv[1])]
    sys.stdout.write("\n" + json.dumps(plans) + "\n")
