"""The task that sends a chunk of an ingestion to Kafka. This file is not a DAG (it is listed in .airflowignore)."""

from __future__ import annotations

from typing import Any

from airflow.providers.apache.kafka.hooks.produce import KafkaProducerHook
from airflow.sdk import ObjectStoragePath, get_current_context, task

from tidemark.dags.mongodb import connected
from tidemark.ingest import jobs, sources
from tidemark.settings import settings
from tidemark.settings.airflow_names import Connection, Pool

NAMES = settings().airflow_names


@task(pool=NAMES.of(Pool.INGEST), map_index_template="{{ chunk_name }}")
def produce(ingestion: str, number: int) -> None:
    """To be mapped over jobs.ChunkKey."""
    context: Any = get_current_context()
    kafka = KafkaProducerHook(NAMES.of(Connection.KAFKA))
    configuration = kafka.get_connection(NAMES.of(Connection.KAFKA)).extra_dejson
    of = settings()
    with connected(of) as database:
        context["chunk_name"] = jobs.chunk_name(database, ingestion, number)
        jobs.produce(database, kafka.get_producer, configuration, sources.allowed(of, ObjectStoragePath), of, ingestion, number)
