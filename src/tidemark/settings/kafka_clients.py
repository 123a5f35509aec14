"""How each Kafka client names the connection of the settings. Nothing else makes such options.

They contain passwords and keys: never log them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tidemark.settings.kafka_files import read_certificates, read_key, read_properties
from tidemark.settings.sections import KafkaSettings

# Spark shows options in plans and on its pages. It hides those whose names match.
SPARK_REDACTION = "(?i)secret|password|token|access[.]?key|jaas|keystore"

_LOGIN_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}


class Hidden(str):
    """A secret that a client may log with its options: there it is hidden."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'...'"


def librdkafka_options(of: KafkaSettings) -> dict[str, Any]:
    """For confluent-kafka, and for Airflow's connection."""
    options = {**_properties(of), "bootstrap.servers": of.kafka}
    if of.kafka_is_secured:
        options["security.protocol"] = of.kafka_security_protocol
    if of.kafka_has_login:
        login = {"sasl.mechanism": of.kafka_sasl_mechanism, "sasl.username": of.kafka_user, "sasl.password": _password(of)}
        options |= login
    if of.kafka_has_tls:
        options |= _files(of, ca="ssl.ca.location", certificate="ssl.certificate.location", key="ssl.key.location")
        options |= _key_password(of, "ssl.key.password")
    return options


def kafka_python_options(of: KafkaSettings) -> dict[str, Any]:
    """For kafka-python's admin client, consumer and producer."""
    options: dict[str, Any] = {"bootstrap_servers": of.kafka}
    if of.kafka_is_secured:
        options["security_protocol"] = of.kafka_security_protocol
    if of.kafka_has_login:
        login = {"sasl_mechanism": of.kafka_sasl_mechanism, "sasl_plain_username": of.kafka_user, "sasl_plain_password": _password(of)}
        options |= login
    if of.kafka_has_tls:
        options |= _files(of, ca="ssl_cafile", certificate="ssl_certfile", key="ssl_keyfile")
        options |= _key_password(of, "ssl_password")
    return options


def spark_options(of: KafkaSettings) -> dict[str, str]:
    """For Spark's source, whose Java client reads what begins with `kafka.`.

    They contain certificates and key instead of their files, so that executors on other machines need none.
    """
    options = {**_properties(of), "bootstrap.servers": of.kafka}
    if of.kafka_is_secured:
        options["security.protocol"] = of.kafka_security_protocol
    if of.kafka_has_login:
        options |= {"sasl.mechanism": of.kafka_sasl_mechanism, "sasl.jaas.config": _jaas(of)}
    if of.kafka_has_tls and of.kafka_ca_file:
        certificates = read_certificates("TIDEMARK_KAFKA_CA_FILE", of.kafka_ca_file)
        options |= {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": certificates}
    if of.kafka_has_tls and of.kafka_certificate_file and of.kafka_key_file:
        options |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": read_certificates("TIDEMARK_KAFKA_CERTIFICATE_FILE", of.kafka_certificate_file),
            "ssl.keystore.key": read_key("TIDEMARK_KAFKA_KEY_FILE", of.kafka_key_file, of.kafka_key_password.get_secret_value()),
        }
    return {f"kafka.{name}": value for name, value in options.items()}


def _properties(of: KafkaSettings) -> dict[str, str]:
    return read_properties("TIDEMARK_KAFKA_PROPERTIES_FILE", of.kafka_properties_file) if of.kafka_properties_file else {}


def _password(of: KafkaSettings) -> Hidden:
    return Hidden(of.kafka_password.get_secret_value())


def _key_password(of: KafkaSettings, name: str) -> dict[str, Hidden]:
    password = of.kafka_key_password.get_secret_value()
    return {name: Hidden(password)} if password else {}


def _files(of: KafkaSettings, *, ca: str, certificate: str, key: str) -> dict[str, str]:
    files: dict[str, Path | None] = {ca: of.kafka_ca_file, certificate: of.kafka_certificate_file, key: of.kafka_key_file}
    return {name: str(file) for name, file in files.items() if file}


def _jaas(of: KafkaSettings) -> str:
    module = _LOGIN_MODULES[of.kafka_sasl_mechanism]
    return f"{module} required username={_quoted(of.kafka_user)} password={_quoted(of.kafka_password.get_secret_value())};"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
