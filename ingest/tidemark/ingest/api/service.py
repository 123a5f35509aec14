"""State shared by the requests of one process: settings, memory limits, producers, and the last health check of Kafka."""

from __future__ import annotations

import asyncio
import logging
import time

from kafka.errors import KafkaError

from tidemark.catalog.words import counted
from tidemark.ingest import topics
from tidemark.ingest.api import document
from tidemark.ingest.api.bodies import MIN_RESERVATION, BodyMemory, MemoryLimit
from tidemark.ingest.api.clients import Keys, WrongKeys
from tidemark.ingest.api.sending import BatchSender, SingleSender
from tidemark.ingest.api.validation import Validator
from tidemark.ingest.files import FileKind
from tidemark.ingest.kinds import topic_of
from tidemark.ingest.layouts import listed
from tidemark.settings import Settings

log = logging.getLogger("tidemark.api")

_HEALTH_SECONDS = 2.0
_KAFKA_SECONDS = 2.0
_LOG_EVERY_SECONDS = 30.0


class Service:
    """State shared by the requests of one process."""

    def __init__(self, of: Settings) -> None:
        self.of = of
        of_client = max(of.api_memory_bytes_per_client, of.api_body_bytes + MIN_RESERVATION)  # one body is always within it
        self.bodies, self.waiting = BodyMemory(of.api_memory_bytes, of_client), MemoryLimit(of.api_memory_bytes)
        self.single, self.batches = SingleSender(of, self.waiting), BatchSender(of)
        self.keys, self.wrong_keys = Keys(of.named_api_keys), WrongKeys(of.api_wrong_keys)
        self._checking = asyncio.Lock()
        self._checked_at, self._health = float("-inf"), document.Health(healthy=False, kafka=of.kafka, topics={}, detail="")
        self._logged_at, self._suppressed = float("-inf"), 0

    def topic(self, kind: FileKind) -> str:
        return topic_of(kind, self.of)

    def validator(self, kind: FileKind, key: str | None) -> Validator:
        """Validates records that arrive now, posted with the key of that name. They count as registered within half of the time that a
        request waits for Kafka, so the clocks of this machine and of Kafka's may differ by as much in either direction.
        """
        now = _now()
        return Validator(kind, now, now + self.of.api_acknowledge_seconds * 1000 // 2, key)

    async def wait_until_registered(self, validator: Validator) -> None:
        """Waits until the validated records count as registered: what is posted after that is newer, whatever becomes of them."""
        await asyncio.sleep(max(0, validator.registered_by - _now()) / 1000)

    def log_failure(self, reason: str) -> None:
        """Logs failed requests, at most once every _LOG_EVERY_SECONDS."""
        self._suppressed += 1
        if time.monotonic() - self._logged_at > _LOG_EVERY_SECONDS:
            log.warning("%s (%s since the last such line)", reason, counted(self._suppressed, "failed request"))
            self._logged_at, self._suppressed = time.monotonic(), 0

    async def health(self) -> document.Health:
        """The health of Kafka, cached for _HEALTH_SECONDS."""
        async with self._checking:
            if time.monotonic() - self._checked_at > _HEALTH_SECONDS:
                self._health = await self._check()
                self._checked_at = time.monotonic()
        return self._health

    async def _check(self) -> document.Health:
        try:
            async with asyncio.timeout(_KAFKA_SECONDS + 1):
                there = await asyncio.to_thread(topics.partitions, self.of, _KAFKA_SECONDS)
        except (KafkaError, OSError, TimeoutError) as error:
            detail = f"Kafka does not answer: {error or type(error).__name__}"
            return document.Health(healthy=False, kafka=self.of.kafka, topics={}, detail=detail)
        missing = [topic for topic in self.of.topics if topic not in there]
        detail = f"missing {listed(missing, 'topic')}: run `python -m tidemark.ingest.topics`" if missing else ""
        return document.Health(healthy=not missing, kafka=self.of.kafka, topics=there, detail=detail)


def _now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
