"""A Kafka with TLS, logins and an authorizer: each program works with its own account and its own rights, and says why if it may not."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer
from kafka.errors import KafkaError, SaslAuthenticationFailedError, TopicAuthorizationFailedError
from pyspark.sql import SparkSession
from support.apis import api
from support.csvs import products
from support.environment import setting
from support.hooks import run_with_airflow
from support.places import Place
from support.secured import KEY_PASSWORD, Secured, account, password, secured_broker
from support.wording import Wording

from tidemark.catalog.marks import TideMark
from tidemark.ingest import connections, peek, topics, watch
from tidemark.ingest.produce import RECOMMENDED, NotAcknowledged, explaining_refusals, produce
from tidemark.ingest.records import Message
from tidemark.local import health
from tidemark.serving import ledger, schema
from tidemark.serving.database import connect, database_of
from tidemark.settings import CHECKOUT, settings
from tidemark.settings.kafka_clients import kafka_python_options, librdkafka_options, spark_options
from tidemark.settings.kafka_rights import GROUP_RIGHTS, TOPIC_RIGHTS
from tidemark.spark.lake import Lake
from tidemark.spark.land import land, read_log
from tidemark.spark.log import describe_log
from tidemark.spark.speed import follow

pytestmark = pytest.mark.servers

TASKS = Path(__file__).parent.parent / "support" / "tasks.py"
DAY = "2024-02-29"
SECONDS = 3


@pytest.fixture(scope="module")
def kafka(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    names = {"database": "test_secured", "product_topic": "secured-product", "category_topic": "secured-category", "product_partitions": "2"}
    with setting(**names), secured_broker(tmp_path_factory.mktemp("secured")) as found:
        yield found


@pytest.fixture(scope="module")
def place(kafka: Secured) -> Iterator[Place]:
    """A database, and topics that set-up has created with its own account. The place itself is the administrator's."""
    with setting(**account("prepare")):
        assert topics.main() == 0
    of = settings()
    with connect(of.mongodb) as client:
        database = database_of(client, of.database)
        schema.prepare(database)
        yield Place(database, of)
        client.drop_database(database.name)


@contextmanager
def running(act) -> Iterator[threading.Event]:
    stop_requested, failures = threading.Event(), []

    def run() -> None:
        try:
            act(stop_requested)
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield stop_requested
    finally:
        stop_requested.set()
        thread.join(120)
    assert not thread.is_alive()
    assert failures == []


def test_set_up_creates_the_topics_and_status_sees_them(place: Place) -> None:
    with topics.admin(place.settings) as client:
        assert topics.configuration_errors(topics.describe(client, place.settings.topics)) == []
    for program in TOPIC_RIGHTS:
        with setting(**account(program)) as of:
            assert health.kafka(of) == (True, of.kafka, ""), program


def test_a_chunk_is_sent_through_airflows_connection(place: Place, tmp_path: Path) -> None:
    before = len(place.log())
    (tmp_path / "products.csv").write_bytes(products(40))
    named = {"products": [str(tmp_path / "products.csv")], "observed_at": [DAY]}
    with setting(**account("ingest")) as of:
        (planned,) = run_with_airflow(str(TASKS), json.dumps([(None, named, 100_000)]), **connections.environment(of))
    assert len(planned["chunks"]) == 1
    assert len(place.log()) - before == 40


def test_the_api_stores_a_record_and_a_batch(place: Place) -> None:
    before = place.ends()
    record = {"asin": "B0T0000000", "title": "t", "price": 1.5, "category_id": 1, "date": f"{DAY}T00:00:00Z"}
    with api(**account("api")) as running_api:
        single = running_api.post("/products/", json.dumps(record).encode())
        assert single.status_code in (201, 422), single.text
        assert running_api.http.get("/health").json()["healthy"]
        assert password("api") not in running_api.text()
    assert sum(place.ends().values()) > sum(before.values())


def test_the_watcher_reads_ends_and_durability(place: Place) -> None:
    with setting(**account("watch")) as of, topics.admin(of) as client:
        assert len(watch.fetch_end_offsets(client, of.topics)) == 3
        assert len(watch.fetch_durability(client, of.topics)) == 2


def test_the_stream_serves_and_a_batch_job_lands(place: Place, spark: SparkSession) -> None:
    place.database.client.admin.command("ping")
    place.producer()
    with setting(**account("stream"), batch_kafka_user="tidemark-batch", batch_kafka_password=password("batch")) as of:
        send(place, 30)
        ends = place.ends()
        with running(lambda stop_requested: follow(place.database, of, stop_requested)):
            wait_for(lambda: ledger.read(place.database).offsets.reaches(ends))
    batch = {**account("stream"), "batch_kafka_user": "tidemark-batch", "batch_kafka_password": password("batch")}
    with setting(**{**batch, "kafka_sasl_mechanism": "PLAIN"}) as of:
        lake = Lake(spark, of.lake_url)
        assert land(spark, lake, ledger.read(place.database), of.with_batch_account()) == ends


def test_the_last_events_are_shown(place: Place) -> None:
    send(place, 3)
    with setting(**account("peek")) as of:
        assert len(peek.last(of, of.product_topic, 2)) == 2


def send(place: Place, count: int) -> None:
    assert produce(place.producer(), place.settings.product_topic, messages(count), 30).events == count


def messages(count: int) -> list[Message]:
    return [Message(b"B0T%07d" % number, b"{}", []) for number in range(count)]


def wait_for(what, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.1)
