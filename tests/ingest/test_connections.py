"""Airflow's hooks must reach the same servers, as the same user and with the same options, as everything else does by the settings."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from pymongo.uri_parser import parse_uri
from support.hooks import through_hooks

from tidemark.ingest import connections
from tidemark.ingest.produce import RECOMMENDED, require_safe
from tidemark.settings import Settings

URLS = (
    "mongodb://127.0.0.1:27017/?replicaSet=tidemark",
    "mongodb://one.example",
    "mongodb://one.example:27018/",
    "mongodb://one.example:27018,two.example:27019,three.example/?replicaSet=rs0&w=majority",
    "mongodb://one.example,two.example:27019",
    "mongodb://[::1]:27018/",
    "mongodb://[::1],[::2]",
    "mongodb://somebody:secret@one.example/",
    "mongodb://somebody:secret@one.example/people?w=2&journal=true",
    "mongodb://somebody:secret@one.example/?authSource=people&authMechanism=SCRAM-SHA-1",
    "mongodb://some%40body%3A:p%40%3A%2F%3F%23%5B%5D%25%2B%20+s%C3%BC@one.example:1,two.example:2/?tls=true&tlsAllowInvalidHostnames=true",
    "mongodb://CN%3Dsomebody%2COU%3Dx@one.example/?authMechanism=MONGODB-X509&tls=true",
    "mongodb://somebody:secret@one.example/?authMechanism=PLAIN&authMechanismProperties=SERVICE_NAME:other&compressors=zlib",
    "mongodb://one.example/?readPreference=secondary&readPreferenceTags=dc:ny,rack:1&readPreferenceTags=dc:ny&readPreferenceTags=",
    "mongodb://one.example/?appName=a%20b%26c&connectTimeoutMS=1500&retryWrites=false&maxPoolSize=7&ssl=false",
    "mongodb+srv://somebody:p%40ss@cluster.example/?retryWrites=true&w=majority",
    "mongodb+srv://cluster.example/people",
)


def parsed(url: str) -> dict[str, Any]:
    """What MongoDB's driver reads from a URL; hosts of mongodb+srv are not looked up."""
    found = parse_uri(url.replace("mongodb+srv", "mongodb"))
    return {name: found[name] or None for name in ("nodelist", "username", "password", "database", "options")}


@pytest.fixture(scope="module")
def hooks() -> dict[str, Any]:
    """What the hooks make of the connection of each URL, and of Kafka's."""
    given: dict[str, str] = {}
    for number, url in enumerate(URLS):
        environment = connections.environment(Settings(mongodb_url=url, kafka_bootstrap_servers="one.example:9092,two.example:9092"))
        assert environment.keys() == {"AIRFLOW_CONN_TIDEMARK_KAFKA", "AIRFLOW_CONN_TIDEMARK_MONGODB"}
        given |= {"kafka": environment["AIRFLOW_CONN_TIDEMARK_KAFKA"], f"mongodb_{number}": environment["AIRFLOW_CONN_TIDEMARK_MONGODB"]}
    return through_hooks(given)


@pytest.mark.parametrize("url", URLS)
def test_the_mongodb_connection_equals_the_settings(url: str, hooks: dict[str, Any]) -> None:
    through = hooks[f"mongodb_{URLS.index(url)}"]
    assert through["url"].startswith(url.partition("//")[0] + "//")
    options = dict(through["options"])
    user = options.pop("username", None)
    again = parsed(f"{through['url']}?{urlencode(options, doseq=True, safe=':,')}")
    assert {**again, "username": again["username"] or user} == parsed(url)


def test_the_kafka_connection_equals_the_settings(hooks: dict[str, Any]) -> None:
    assert hooks["kafka"] == {"bootstrap.servers": "one.example:9092,two.example:9092", **RECOMMENDED}
    require_safe(hooks["kafka"])


def test_the_local_servers_are_the_default() -> None:
    kafka, mongodb = map(json.loads, connections.environment(Settings(mongodb_port=40001, kafka_port=40002)).values())
    assert kafka["extra"]["bootstrap.servers"] == "127.0.0.1:40002"
    assert (mongodb["host"], mongodb["port"], mongodb["extra"]) == ("127.0.0.1", 40001, {"srv": False, "replicaSet": "tidemark"})
