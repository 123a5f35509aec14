"""State shared by the requests of one process: settings, memory limits, producers, and the last health check of Kafka."""

from __future__ import annotations

import asyncio
import logging
import time

from kafka.errors import KafkaError

from tidemark.catalog.words import counted
from tidemark.ingest import topics
from tidemark.ingest.api import document
from tidemark.ingest.api.bodies import Room
from tidemark.ingest.api.judging import Judge
from tidemark.ingest.api.sending import BatchSender, SingleSender
from tidemark.ingest.files import FileKind
from tidemark.ingest.kinds import topic_of
from tidemark.ingest.layouts import listed
from tidemark.settings import Settings

log = logging.getLogger("tidemark.api")

_LOOK_EVERY_SECONDS = 2.0
_LOOK_SECONDS = 2.0
_COMPLAIN_EVERY_SECONDS = 30.0


class Service:
    """State shared by the requests of one process."""

    def __init__(self, of: Settings) -> None:
        self.of = of
        self.bodies, self.waiting = Room(of.api_memory_bytes), Room(of.api_memory_bytes)
        self.single, self.batches = SingleSender(of, self.waiting), BatchSender(of)
        self._looking = asyncio.Lock()
        self._looked_at, self._seen = float("-inf"), document.Health(healthy=False, kafka=of.kafka, topics={}, detail="")
        self._complained_at, self._unsaid = float("-inf"), 0

    def topic(self, kind: FileKind) -> str:
        return topic_of(kind, self.of)

    def judge(self, kind: FileKind) -> Judge:
        """Validates records that arrive now. They count as registered within half of the time that a request waits for Kafka, so the
        clocks of this machine and of Kafka's may differ by as much in either direction.
        """
        now = _now()
        return Judge(kind, now, now + self.of.api_acknowledge_seconds * 1000 // 2)

    async def until_registered(self, judge: Judge) -> None:
        """Waits until the judged records count as registered: what is posted after that is newer, whatever becomes of them."""
        await asyncio.sleep(max(0, judge.registered_by - _now()) / 1000)

    def complain(self, reason: str) -> None:
        """Logs failed requests, at most once every _COMPLAIN_EVERY_SECONDS."""
        self._unsaid += 1
        if time.monotonic() - self._complained_at > _COMPLAIN_EVERY_SECONDS:
            log.warning("%s (%s since the last such line)", reason, counted(self._unsaid, "failed request"))
            self._complained_at, self._unsaid = time.monotonic(), 0

    async def health(self) -> document.Health:
        """The health of Kafka, cached for _LOOK_EVERY_SECONDS."""
        async with self._looking:
            if time.monotonic() - self._looked_at > _LOOK_EVERY_SECONDS:
                self._seen = await self._look()
                self._looked_at = time.monotonic()
        return self._seen

    async def _look(self) -> document.Health:
        try:
            async with asyncio.timeout(_LOOK_SECONDS + 1):
                there = await asyncio.to_thread(topics.partitions, self.of, _LOOK_SECONDS)
        except (KafkaError, OSError, TimeoutError) as error:
            detail = f"Kafka does not answer: {error or type(error).__name__}"
            return document.Health(healthy=False, kafka=self.of.kafka, topics={}, detail=detail)
        missing = [topic for topic in self.of.topics if topic not in there]
        detail = f"missing {listed(missing, 'topic')}: run `python -m tidemark.ingest.topics`" if missing else ""
        return document.Health(healthy=not missing, kafka=self.of.kafka, topics=there, detail=detail)


def _now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
