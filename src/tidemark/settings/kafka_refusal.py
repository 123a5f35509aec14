"""Why Kafka refuses a client: a wrong login or certificate. The clients that Tidemark uses only say that they get no answer."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tidemark.settings.kafka_clients import librdkafka_options
from tidemark.settings.sections import KafkaSettings

_SECONDS = 3.0
_STATE = re.compile(r" \(after [^)]*\)$")  # how long librdkafka has been in which state


def refusal(options: Mapping[str, Any]) -> str | None:
    """Why, and what to do, for a client with these options of librdkafka, which connects; None if Kafka does not answer or lets it in."""
    from confluent_kafka import KafkaError, Producer

    if options.get("security.protocol", "PLAINTEXT") == "PLAINTEXT":
        return None
    remedies = {
        KafkaError._AUTHENTICATION: "correct TIDEMARK_KAFKA_USER, TIDEMARK_KAFKA_PASSWORD and TIDEMARK_KAFKA_SASL_MECHANISM",
        KafkaError._SSL: "correct TIDEMARK_KAFKA_CA_FILE, and TIDEMARK_KAFKA_CERTIFICATE_FILE where brokers require one",
    }
    told: list[KafkaError] = []
    # Only a callback is told the reason. A connection's own callbacks may be names, which Airflow's hook resolves.
    own = {name: value for name, value in options.items() if not name.endswith("_cb")}
    client = Producer({**own, "error_cb": told.append, "log_level": 0})
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until and not any(one.code() == KafkaError._ALL_BROKERS_DOWN for one in told):
        client.poll(0.1)
        for one in told:
            if remedy := remedies.get(one.code()):
                return f"{_STATE.sub('', one.str())}: {remedy}"
    return None


@contextmanager
def explaining_timeouts(of: KafkaSettings) -> Iterator[None]:
    """Where kafka-python gets no answer because Kafka refuses it, raises KafkaConfigurationError, which says why."""
    from kafka.errors import KafkaConfigurationError, KafkaTimeoutError

    try:
        yield
    except KafkaTimeoutError as error:
        if why := refusal(librdkafka_options(of)):
            raise KafkaConfigurationError(why) from error
        raise
