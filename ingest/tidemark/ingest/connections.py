"""Airflow's connections to Kafka and MongoDB, derived from the settings, as environment variables."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, unquote_plus, urlsplit

from tidemark.ingest.produce import RECOMMENDED
from tidemark.settings import Settings
from tidemark.settings.airflow_names import Connection
from tidemark.settings.kafka_clients import librdkafka_options


def environment(of: Settings) -> dict[str, str]:
    """The AIRFLOW_CONN_... variables for Kafka and MongoDB."""
    names = of.airflow_names
    return {
        f"AIRFLOW_CONN_{names.of(Connection.KAFKA).upper()}": json.dumps(
            {"conn_type": "kafka", "extra": {**librdkafka_options(of), **RECOMMENDED}}
        ),
        f"AIRFLOW_CONN_{names.of(Connection.MONGODB).upper()}": json.dumps(_mongodb(of.mongodb)),
    }


def _mongodb(url: str) -> dict[str, object]:
    """Fields from which Airflow's hook rebuilds the same URL. The schema is the URL's own database, where the user is authenticated."""
    parts = urlsplit(url)
    # Several hosts go into the host field as in MongoDB's own URLs; the port of the last one goes into the port field.
    hosts = parts.netloc.rpartition("@")[2]
    host, _, port = hosts.rpartition(":")
    if not port.isdigit():  # no port, or the end of an IPv6 address
        host, port = hosts, ""
    extra: dict[str, object] = {"srv": parts.scheme == "mongodb+srv"}
    extra |= {name: values if len(values) > 1 else values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    login: dict[str, str] = {}
    if parts.username and parts.password is not None:
        # MongoDB's drivers read an unescaped plus sign in a URL as a space.
        login = {"login": unquote_plus(parts.username), "password": unquote_plus(parts.password)}
    elif parts.username:
        extra["username"] = unquote_plus(parts.username)  # the driver accepts a user without a password, the hook does not
    return {
        "conn_type": "mongo",
        "host": host,
        **({"port": int(port)} if port else {}),
        **login,
        "schema": parts.path.strip("/"),
        "extra": extra,
    }
