"""The Airflow connections that ingestion needs, as Airflow takes them from the environment."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, unquote, urlsplit

from ingest.produce import RECOMMENDED
from settings import settings

KAFKA_CONNECTION = "tidemark_kafka"
MONGODB_CONNECTION = "tidemark_mongodb"


def environment() -> dict[str, str]:
    """AIRFLOW_CONN_... of Kafka and MongoDB of the settings."""
    return {
        f"AIRFLOW_CONN_{KAFKA_CONNECTION.upper()}": json.dumps({"conn_type": "kafka", "extra": _kafka()}),
        f"AIRFLOW_CONN_{MONGODB_CONNECTION.upper()}": json.dumps(_mongodb(settings().mongodb, settings().database)),
    }


def _kafka() -> dict[str, object]:
    return {"bootstrap.servers": settings().kafka, **RECOMMENDED}


def _mongodb(url: str, database: str) -> dict[str, object]:
    parts = urlsplit(url)
    # Several hosts stand in the host field as MongoDB's own URLs have them, the last one's port in the port field.
    *others, last = parts.netloc.rpartition("@")[2].split(",")
    host, _, port = last.partition(":")
    return {
        "conn_type": "mongo",
        "host": ",".join([*others, host]),
        **({"port": int(port)} if port else {}),
        **({"login": unquote(parts.username)} if parts.username else {}),
        **({"password": unquote(parts.password)} if parts.password else {}),
        "schema": database,
        "extra": {"srv": parts.scheme == "mongodb+srv", **dict(parse_qsl(parts.query))},
    }
