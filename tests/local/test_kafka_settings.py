"""A secured Kafka in the settings: contradictions are refused by name, and each client gets its own names of the options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support.secured import KEY_PASSWORD, write_certificates
from support.wording import Wording

from tidemark.ingest import connections
from tidemark.settings import describe_errors
from tidemark.settings.kafka_clients import kafka_python_options, librdkafka_options, spark_options

SECRET = 'a "quoted" \\ $ecret;'
LOGIN = {
    "kafka_bootstrap_servers": "one.example:9093,two.example:9093",
    "kafka_security_protocol": "SASL_SSL",
    "kafka_user": "somebody",
    "kafka_password": SECRET,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_certificates(tmp_path)
    (tmp_path / "malformed").write_text("client.rack=a\n\n# a comment\nclient.rack secret\n")
    (tmp_path / "contradicting").write_text("sasl.password=secret\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    return tmp_path


CONTRADICTIONS: dict[str, dict[str, str]] = {
    "a local broker": {"kafka_bootstrap_servers": ""},
    "no user": {"kafka_user": "", "kafka_password": ""},
    "no password": {"kafka_password": ""},
    "no batch password": {"batch_kafka_user": "batch"},
    "no login": {"kafka_security_protocol": "SSL"},
    "a user that SCRAM would escape": {"kafka_user": "some,body"},
    "no TLS": {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ca_file": "ca.pem"},
    "no key": {"kafka_certificate_file": "client.pem"},
    "no certificate": {"kafka_key_file": "client.key"},
    "a password without a key": {"kafka_key_password": SECRET},
    "a missing CA file": {"kafka_ca_file": "nowhere.pem"},
    "a CA file without certificates": {"kafka_ca_file": "client.key"},
    "a binary CA file": {"kafka_ca_file": "binary"},
    "a key without its password": {"kafka_certificate_file": "client.pem", "kafka_key_file": "client.key"},
    "a key with another password": {
        "kafka_certificate_file": "client.pem", "kafka_key_file": "client.key", "kafka_key_password": SECRET
    },
    "a password of a key that has none": {
        "kafka_certificate_file": "client.pem", "kafka_key_file": "server.pem", "kafka_key_password": SECRET
    },
    "no key in the file": {"kafka_certificate_file": "client.pem", "kafka_key_file": "ca.pem"},
    "a missing file of properties": {"kafka_properties_file": "nowhere"},
    "a malformed property": {"kafka_properties_file": "malformed"},
    "a property that is a setting": {"kafka_properties_file": "contradicting"},
}  # fmt: skip


def with_files(folder: Path, given: dict[str, str]) -> dict[str, str]:
    return {name: str(folder / value) if name.endswith("_file") else value for name, value in given.items()}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction_is_refused_without_showing_secrets(configure: Any, folder: Path, case: str, wording: Wording) -> None:
    with pytest.raises(ValidationError) as refused:
        configure(**LOGIN | with_files(folder, CONTRADICTIONS[case]))
    (line,) = describe_errors(refused.value)
    assert "secret" not in line
    assert "ecret;" not in str(refused.value)
    wording.check(line)


def test_plaintext_needs_nothing_but_the_address(configure: Any) -> None:
    of = configure(kafka_bootstrap_servers="one.example:9092")
    assert librdkafka_options(of) == {"bootstrap.servers": "one.example:9092"}
    assert kafka_python_options(of) == {"bootstrap_servers": "one.example:9092"}
    assert spark_options(of) == {"kafka.bootstrap.servers": "one.example:9092"}


def test_each_client_is_given_the_login_and_the_files(configure: Any, folder: Path) -> None:
    (folder / "further").write_text("# of both\nclient.rack = a=b\n\n")
    certificate = {"kafka_certificate_file": "client.pem", "kafka_key_file": "client.key", "kafka_key_password": KEY_PASSWORD}
    of = configure(**LOGIN | with_files(folder, {"kafka_ca_file": "ca.pem", "kafka_properties_file": "further", **certificate}))
    servers = LOGIN["kafka_bootstrap_servers"]
    assert librdkafka_options(of) == {
        "client.rack": "a=b",
        "bootstrap.servers": servers,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "somebody",
        "sasl.password": SECRET,
        "ssl.ca.location": str(folder / "ca.pem"),
        "ssl.certificate.location": str(folder / "client.pem"),
        "ssl.key.location": str(folder / "client.key"),
        "ssl.key.password": KEY_PASSWORD,
    }
    assert kafka_python_options(of) == {
        "bootstrap_servers": servers,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "somebody",
        "sasl_plain_password": SECRET,
        "ssl_cafile": str(folder / "ca.pem"),
        "ssl_certfile": str(folder / "client.pem"),
        "ssl_keyfile": str(folder / "client.key"),
        "ssl_password": KEY_PASSWORD,
    }
    of_spark = spark_options(of)
    key = of_spark.pop("kafka.ssl.keystore.key")
    assert key.startswith("-----BEGIN PRIVATE KEY-----")
    assert of_spark == {
        "kafka.client.rack": "a=b",
        "kafka.bootstrap.servers": servers,
        "kafka.security.protocol": "SASL_SSL",
        "kafka.sasl.mechanism": "SCRAM-SHA-512",
        "kafka.sasl.jaas.config": (
            'org.apache.kafka.common.security.scram.ScramLoginModule required username="somebody" password="a \\"quoted\\" \\\\ $ecret;";'
        ),
        "kafka.ssl.truststore.type": "PEM",
        "kafka.ssl.truststore.certificates": (folder / "ca.pem").read_text(),
        "kafka.ssl.keystore.type": "PEM",
        "kafka.ssl.keystore.certificate.chain": (folder / "client.pem").read_text(),
    }


def test_what_a_client_logs_of_its_options_hides_the_secrets(configure: Any) -> None:
    of = configure(**LOGIN)
    assert "ecret;" not in f"{librdkafka_options(of)} {kafka_python_options(of)} {of}"


def test_batch_jobs_have_an_account_of_their_own(configure: Any) -> None:
    of = configure(**LOGIN, batch_kafka_user="batch", batch_kafka_password="other")
    options = kafka_python_options(of.with_batch_account())
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("batch", "other")
    assert configure(**LOGIN).with_batch_account().kafka_user == "somebody"


def test_airflows_connection_logs_in_too(configure: Any) -> None:
    connection = json.loads(connections.environment(configure(**LOGIN))["AIRFLOW_CONN_TIDEMARK_KAFKA"])
    assert connection["extra"].items() >= librdkafka_options(configure(**LOGIN)).items()
