"""The Airflow connections to Kafka and MongoDB, made of the settings, as Airflow takes them from the environment."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, unquote_plus, urlsplit

from tidemark.ingest.produce import RECOMMENDED
from tidemark.settings import settings
from tidemark.settings.airflow_names import Connection


def environment() -> dict[str, str]:
    """AIRFLOW_CONN_... of Kafka and MongoDB of the settings."""
    return {
        f"AIRFLOW_CONN_{Connection.KAFKA.id.upper()}": json.dumps({"conn_type": "kafka", "extra": _kafka()}),
        f"AIRFLOW_CONN_{Connection.MONGODB.id.upper()}": json.dumps(_mongodb(settings().mongodb)),
    }


def _kafka() -> dict[str, object]:
    return {"bootstrap.servers": settings().kafka, **RECOMMENDED}


def _mongodb(url: str) -> dict[str, object]:
    """What Airflow's hook makes the same URL of again. Its database is the URL's own: it is where the user is looked up."""
    parts = urlsplit(url)
    # Several hosts stand in the host field as MongoDB's own URLs have them, the last one's port in the port field.
    hosts = parts.netloc.rpartition("@")[2]
    host, _, port = hosts.rpartition(":")
    if not port.isdigit():  # none, or the end of an IPv6 address
        host, port = hosts, ""
    extra: dict[str, object] = {"srv": parts.scheme == "mongodb+srv"}
    extra |= {name: values if len(values) > 1 else values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    login: dict[str, str] = {}
    if parts.username and parts.password is not None:
        # As MongoDB's drivers read a URL: a plus sign that is not escaped is a space.
        login = {"login": unquote_plus(parts.username), "password": unquote_plus(parts.password)}
    elif parts.username:
        extra["username"] = unquote_plus(parts.username)  # the hook knows no user without a password, the driver does
    return {
        "conn_type": "mongo",
        "host": host,
        **({"port": int(port)} if port else {}),
        **login,
        "schema": parts.path.strip("/"),
        "extra": extra,
    }
