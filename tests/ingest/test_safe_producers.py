"""Which producer configurations are exact: the connection's own settings reach the producer, so each of them counts."""

from __future__ import annotations

from typing import Any

import pytest
from support.wording import Wording

from tidemark.ingest.produce import RECOMMENDED, UnsafeProducer, require_safe

SAFE: dict[str, dict[str, Any]] = {
    "the recommended": RECOMMENDED,
    "as text": {"partitioner": "murmur2", "acks": "ALL", "enable.idempotence": "True"},
    "by another name": {"partitioner": "murmur2_random", "request.required.acks": -1, "enable.idempotence": True},
    "and others": {**RECOMMENDED, "security.protocol": "SASL_SSL", "compression.type": "zstd"},
}

UNSAFE: dict[str, dict[str, Any]] = {
    "nothing but servers": {"bootstrap.servers": "x"},
    "librdkafka's partitioner": {**RECOMMENDED, "partitioner": "consistent_random"},
    "the leader's acknowledgement": {**RECOMMENDED, "acks": 1},
    "no acknowledgement, by another name": {"partitioner": "murmur2", "request.required.acks": 0, "enable.idempotence": True},
    "another name that comes later": {**RECOMMENDED, "request.required.acks": 1},
    "retries that double": {**RECOMMENDED, "enable.idempotence": False},
    "two at once": {**RECOMMENDED, "acks": "0", "enable.idempotence": "false"},
    "settings within settings": {**RECOMMENDED, "default.topic.config": {"partitioner": "consistent"}},
    "silent acknowledgements": {**RECOMMENDED, "delivery.report.only.error": True},
    "transactions": {**RECOMMENDED, "transactional.id": "One"},
}


@pytest.mark.parametrize("what", SAFE)
def test_safe_settings_are_accepted(what: str) -> None:
    require_safe(SAFE[what])


@pytest.mark.parametrize("what", UNSAFE)
def test_unsafe_settings_are_named(what: str, wording: Wording) -> None:
    """Each unsafe setting is named, and no other."""
    with pytest.raises(UnsafeProducer) as refused:
        require_safe(UNSAFE[what])
    wording.check(str(refused.value))
