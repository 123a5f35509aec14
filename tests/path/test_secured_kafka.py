"""A Kafka with TLS, logins and an authorizer: each program works with its own account and rights, and says why where it may not."""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from kafka.errors import TopicAuthorizationFailedError
from pyspark.sql import SparkSession
from support.apis import api
from support.csvs import products
from support.environment import setting
from support.hooks import run_with_airflow
from support.places import Place
from support.secured import Secured, account, password, secured_broker
from support.wording import Wording

from tidemark.catalog.marks import TideMark
from tidemark.ingest import connections, peek, topics, watch
from tidemark.ingest.api.document import PRODUCT
from tidemark.ingest.produce import RECOMMENDED, NotAcknowledged, explaining_refusals, produce
from tidemark.ingest.records import Message
from tidemark.local import health
from tidemark.serving import ledger, offsets, schema
from tidemark.serving.database import connect, database_of
from tidemark.settings import CHECKOUT, Settings, settings
from tidemark.settings.kafka_clients import librdkafka_options, spark_options
from tidemark.settings.kafka_rights import GROUP_RIGHTS, TOPIC_RIGHTS
from tidemark.spark.lake import Lake
from tidemark.spark.land import land, read_log
from tidemark.spark.speed import follow

pytestmark = pytest.mark.servers

TASKS = Path(__file__).parent.parent / "support" / "tasks.py"
NDJSON = "application/x-ndjson"


@pytest.fixture(scope="module")
def kafka(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    names = {"database": "test_secured", "product_topic": "secured-product", "category_topic": "secured-category"}
    with setting(**names, product_partitions="2"), secured_broker(tmp_path_factory.mktemp("secured")) as found:
        yield found


@pytest.fixture(scope="module")
def place(kafka: Secured) -> Iterator[Place]:
    """A database, and the topics, which set-up has created with its own account. The place itself is the administrator's."""
    with setting(**account("prepare")):
        assert topics.main() == 0
    of = settings()
    with connect(of.mongodb) as client:
        database = database_of(client, of.database)
        schema.prepare(database)
        yield Place(database, of)
        client.drop_database(database.name)
    shutil.rmtree(of.lake_url, ignore_errors=True)


@pytest.fixture
def properties(tmp_path: Path) -> str:
    """A file of properties that librdkafka and Java know by the same names."""
    (tmp_path / "properties").write_text("client.rack = one\nconnections.max.idle.ms=300000\nsocket.connection.setup.timeout.ms=10000\n")
    return str(tmp_path / "properties")


def send(place: Place, count: int) -> TideMark:
    """Sends events, and returns the end of the log."""
    events = [Message(b"B0T%07d" % number, b"{}", []) for number in range(count)]
    assert produce(place.producer(), place.settings.product_topic, events, 30).events == count
    return place.ends()


@contextmanager
def running(act: Callable[[threading.Event], object]) -> Iterator[list[BaseException]]:
    """Runs in a thread until this ends; what has made it fail."""
    stop_requested, failures = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            act(stop_requested)
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield failures
    finally:
        stop_requested.set()
        thread.join(120)
    assert not thread.is_alive()
    assert failures == []


def test_set_up_creates_the_topics_and_every_account_sees_them(place: Place) -> None:
    with topics.admin(place.settings) as client:
        assert topics.configuration_errors(topics.describe(client, place.settings.topics), False) == []
    for program in TOPIC_RIGHTS:
        with setting(**account(program)) as of:
            assert health.kafka(of) == (True, of.kafka, ""), program


def test_a_chunk_is_sent_through_airflows_connection(place: Place, tmp_path: Path) -> None:
    before = len(place.log())
    (tmp_path / "products.csv").write_bytes(products(40))
    named = {"products": [str(tmp_path / "products.csv")], "observed_at": ["2024-02-29"]}
    with setting(**account("ingest")) as of:
        (planned,) = run_with_airflow(str(TASKS), json.dumps([(None, named, 100_000)]), **connections.environment(of))
    assert len(planned["chunks"]) == 1
    assert len(place.log()) - before == 40


def test_the_api_stores_a_record_and_a_batch(place: Place) -> None:
    before, record = len(place.log()), json.dumps(PRODUCT).encode()
    with api(**account("api")) as running_api:
        assert running_api.post("/AmazonProduct", record).status_code == 201
        assert running_api.post("/AmazonProduct/batch", record + b"\n" + record, NDJSON).status_code == 201
        assert password("api") not in running_api.text()
    assert len(place.log()) - before == 3


def test_the_watcher_reads_ends_and_durability(place: Place, wording: Wording) -> None:
    ends = send(place, 3)
    with setting(**account("watch")) as of, topics.admin(of) as client:
        assert offsets.from_documents(watch.fetch_end_offsets(client, of.topics)) == ends
        assert watch.fetch_durability(client, of.topics) == [{"topic": topic, "copies": 1, "flushed": False} for topic in of.topics]
    with setting(**account("api")) as of, topics.admin(of) as client, pytest.raises(TopicAuthorizationFailedError) as refused:
        watch.fetch_durability(client, of.topics)
    wording.check(str(refused.value))


def test_the_stream_serves_what_is_sent(place: Place, spark: SparkSession) -> None:
    ends = send(place, 30)
    with setting(**account("stream")) as of, running(lambda stop_requested: follow(place.database, of, stop_requested)) as failures:
        until = time.monotonic() + 120
        while not ledger.read(place.database).offsets.reaches(ends):
            assert failures == []
            assert time.monotonic() < until
            time.sleep(0.1)


def test_a_batch_job_lands_with_an_account_of_its_own(place: Place, spark: SparkSession) -> None:
    ends = send(place, 5)
    with setting(**account("ingest"), batch_kafka_user="tidemark-batch", batch_kafka_password=password("batch")) as of:
        lake = Lake(spark, of.lake_url)
        assert land(spark, lake, ledger.read(place.database), of.with_batch_account()) == ends
    assert lake.count() == len(place.log())


def test_the_last_events_are_shown(place: Place, properties: str) -> None:
    send(place, 3)
    with setting(**account("peek"), kafka_properties_file=properties) as of:
        assert [event.value for event in peek.last(of, of.product_topic, 2)] == [b"{}", b"{}"]


def test_accounts_have_no_other_rights(place: Place) -> None:
    """Nobody but those who should can write, and nobody but those who should can read."""
    for program, operations in TOPIC_RIGHTS.items():
        with setting(**account(program)) as of:
            assert ("WRITE" in operations) == writes(of), program
            assert not creates(of), program
    for program in ("ingest", "api", "watch", "prepare"):
        with setting(**account(program)) as of, pytest.raises(peek.NotReadable):
            peek.last(of, of.product_topic, 1)


def writes(of: Settings) -> bool:
    try:
        produce(Producer({**librdkafka_options(of), **RECOMMENDED, "log_level": 0}), of.product_topic, [Message(b"k", b"{}", [])], 20)
    except NotAcknowledged:
        return False
    return True


def creates(of: Settings) -> bool:
    try:
        with topics.admin(of) as client:
            client.create_topics({"another": {"num_partitions": 1, "replication_factor": 1}})
    except TopicAuthorizationFailedError:
        return False
    return True


def test_a_client_certificate_with_a_key_that_has_a_password(place: Place, kafka: Secured, spark: SparkSession, properties: str) -> None:
    with setting(**kafka.certificate, kafka_properties_file=properties) as of:
        assert topics.partitions(of, 20) == {of.product_topic: 2, of.category_topic: 1}
        assert writes(of)
        todo = {key: (0, end) for key, end in place.ends().items()}
        assert read_log(spark, of, todo).count() == len(place.log())


WRONG = {
    "password": {**account("ingest"), "kafka_password": "an0ther"},
    "password of PLAIN": {**account("api"), "kafka_password": "an0ther"},
    "mechanism": {**account("ingest"), "kafka_sasl_mechanism": "SCRAM-SHA-256"},
    "CA": {**account("ingest"), "kafka_ca_file": ""},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_refused_client_says_why(place: Place, what: str, monkeypatch: pytest.MonkeyPatch, wording: Wording) -> None:
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", 1.0)
    with setting(**WRONG[what]) as of:
        healthy, _, detail = health.kafka(of)
        assert not healthy
        wording.check(detail, "health")
        configuration = {**librdkafka_options(of), **RECOMMENDED, "log_level": 0}
        with pytest.raises(NotAcknowledged) as told, explaining_refusals(configuration):
            produce(Producer(configuration), of.product_topic, [Message(b"k", b"{}", [])], 1)
        wording.check(str(told.value), "producer")
    assert "an0ther" not in f"{told.value} {detail}"


def test_spark_and_logs_show_no_secret(place: Place, kafka: Secured, spark: SparkSession, caplog: pytest.LogCaptureFixture) -> None:
    with setting(**account("batch")) as of:
        with caplog.at_level(logging.DEBUG, "kafka"), topics.admin(of):
            pass
        log = read_log(spark, of, {key: (0, end) for key, end in place.ends().items()})
        shown = [caplog.text, log._jdf.queryExecution().toString(), redacted(spark, spark_options(of))]
    assert "sasl_plain_password" in caplog.text
    assert [text for text in shown if password("batch") in text or "LoginModule" in text] == []
    with setting(**kafka.certificate) as of:
        assert "PRIVATE KEY" not in redacted(spark, spark_options(of))


def redacted(spark: SparkSession, options: dict[str, str]) -> str:
    """Options as Spark shows them in plans and on its pages."""
    jvm: Any = spark._jvm
    return str(spark._jsparkSession.sessionState().conf().redactOptions(jvm.PythonUtils.toScalaMap(options)).toString())


def test_the_rights_are_documented() -> None:
    rows = [f"| `{program}` | {_listed(operations)} | {_groups(program)} |" for program, operations in TOPIC_RIGHTS.items()]
    text = (CHECKOUT / "docs" / "deploy.md").read_text()
    documented = [re.sub(r"^(\| `\w+`)[^|]*", r"\1 ", line) for line in text.splitlines()]
    assert [row for row in rows if row not in documented] == []


def _groups(program: str) -> str:
    return ", ".join(f"{_listed(operations)} on `{group}`" for group, operations in GROUP_RIGHTS.get(program, {}).items())


def _listed(operations: Iterable[str]) -> str:
    return ", ".join(f"`{one}`" for one in operations)
