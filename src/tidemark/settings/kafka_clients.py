"""How each Kafka client names the connection of the settings. Nothing else makes such options.

They contain passwords and keys: never log them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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


class _Names(NamedTuple):
    """A client's names of the options."""

    protocol: str
    mechanism: str
    user: str
    password: str
    ca: str
    certificate: str
    key: str
    key_password: str


_LIBRDKAFKA = _Names(
    *("security.protocol", "sasl.mechanism", "sasl.username", "sasl.password"),
    *("ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.key.password"),
)
_KAFKA_PYTHON = _Names(
    *("security_protocol", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password"),
    *("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password"),
)


def librdkafka_options(of: KafkaSettings) -> dict[str, Any]:
    """For confluent-kafka, and for Airflow's connection."""
    return {**_properties(of), "bootstrap.servers": of.kafka, **_access(of, _LIBRDKAFKA)}


def kafka_python_options(of: KafkaSettings) -> dict[str, Any]:
    """For kafka-python's admin client, consumer and producer."""
    return {"bootstrap_servers": of.kafka, **_access(of, _KAFKA_PYTHON)}


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


def _access(of: KafkaSettings, names: _Names) -> dict[str, Any]:
    """Protocol, login and files; nothing for a Kafka that requires none."""
    options: dict[str, Any] = {}
    if of.kafka_is_secured:
        options[names.protocol] = of.kafka_security_protocol
    if of.kafka_has_login:
        options |= {names.mechanism: of.kafka_sasl_mechanism, names.user: of.kafka_user}
        options[names.password] = Hidden(of.kafka_password.get_secret_value())
    if of.kafka_has_tls:
        files = {names.ca: of.kafka_ca_file, names.certificate: of.kafka_certificate_file, names.key: of.kafka_key_file}
        options |= {name: str(file) for name, file in files.items() if file}
        if password := of.kafka_key_password.get_secret_value():
            options[names.key_password] = Hidden(password)
    return options


def _jaas(of: KafkaSettings) -> str:
    module = _LOGIN_MODULES[of.kafka_sasl_mechanism]
    return f"{module} required username={_quoted(of.kafka_user)} password={_quoted(of.kafka_password.get_secret_value())};"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
