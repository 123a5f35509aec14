"""Which producer configurations are exact: the connection's own settings reach the producer, so each of them counts."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ingest.produce import RECOMMENDED, UnsafeProducer, require_safe

SAFE: dict[str, dict[str, Any]] = {
    "the recommended": RECOMMENDED,
    "as text": {"partitioner": "murmur2", "acks": "ALL", "enable.idempotence": "True"},
    "by another name": {"partitioner": "murmur2_random", "request.required.acks": -1, "enable.idempotence": True},
    "and others": {**RECOMMENDED, "security.protocol": "SASL_SSL", "compression.type": "zstd"},
}

UNSAFE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing but servers": (
        {"bootstrap.servers": "x"},
        [
            "partitioner must be murmur2_random or murmur2 (it is not set)",
            "acks must be all or -1 (it is not set)",
            "enable.idempotence must be true (it is not set)",
        ],
    ),
    "librdkafka's partitioner": (
        {**RECOMMENDED, "partitioner": "consistent_random"},
        ["partitioner must be murmur2_random or murmur2 (it is consistent_random)"],
    ),
    "the leader's acknowledgement": ({**RECOMMENDED, "acks": 1}, ["acks must be all or -1 (it is 1)"]),
    "no acknowledgement, by another name": (
        {"partitioner": "murmur2", "request.required.acks": 0, "enable.idempotence": True},
        ["acks must be all or -1 (it is 0)"],
    ),
    "another name that comes later": ({**RECOMMENDED, "request.required.acks": 1}, ["acks must be all or -1 (it is 1)"]),
    "retries that double": ({**RECOMMENDED, "enable.idempotence": False}, ["enable.idempotence must be true (it is false)"]),
    "two at once": (
        {**RECOMMENDED, "acks": "0", "enable.idempotence": "false"},
        ["acks must be all or -1 (it is 0)", "enable.idempotence must be true (it is false)"],
    ),
    "settings within settings": (
        {**RECOMMENDED, "default.topic.config": {"partitioner": "consistent"}},
        ["default.topic.config must not be set: it overrides the other settings (it is {'partitioner': 'consistent'})"],
    ),
    "silent acknowledgements": (
        {**RECOMMENDED, "delivery.report.only.error": True},
        ["delivery.report.only.error must not be set: then what Kafka acknowledges is not told (it is true)"],
    ),
    "transactions": (
        {**RECOMMENDED, "transactional.id": "One"},
        ["transactional.id must not be set: chunks are not sent in transactions (it is one)"],
    ),
}


@pytest.mark.parametrize("what", SAFE)
def test_safe(what: str) -> None:
    require_safe(SAFE[what])


@pytest.mark.parametrize("what", UNSAFE)
def test_unsafe(what: str) -> None:
    """Each setting that is wrong is named with its value, and no other."""
    configuration, complaints = UNSAFE[what]
    message = re.escape("the Kafka connection's producer is not safe to use: " + "; ".join(complaints))
    with pytest.raises(UnsafeProducer, match=f"^{message}$"):
        require_safe(configuration)
