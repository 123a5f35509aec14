"""The API's two producers, shared by all requests: kafka-python for single records, the producer of ingestion for batches.

Success means that Kafka has acknowledged the event. Without an acknowledgement in time the event may be stored, or still become so:
no client can take back a request that waits in the network or at a paused broker. Its version says when it was posted, so it overtakes
nothing that was posted after the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import KafkaError as BulkError
from confluent_kafka import Producer
from fastapi import HTTPException
from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, RetriableError

from tidemark.catalog.topics import MAX_MESSAGE_BYTES
from tidemark.catalog.words import counted
from tidemark.ingest.api.bodies import RETRY_AFTER, MemoryLimit
from tidemark.ingest.produce import RECOMMENDED, Acknowledged, produce
from tidemark.ingest.records import Message
from tidemark.settings import Settings
from tidemark.settings.kafka_clients import kafka_python_options, librdkafka_options

log = logging.getLogger("tidemark.api")

MAX_CONCURRENT_BATCHES = 4
_TRY_AGAIN_SECONDS = 0.05
_MARGIN_SECONDS = 1.0  # the batch producer expires a message at the limit and reports it slightly later
_OVERHEAD_BYTES = 2_048  # memory overhead of a pending record
_FOR_EVER_MS = 2**31 - 1

_Answer = TypeVar("_Answer")


class Stored(NamedTuple):
    """The coordinates of an event in Kafka."""

    topic: str
    partition: int
    offset: int


class NotStored(Exception):
    """Kafka did not acknowledge a record in time: it may be in the log, may be written later, or not at all."""


class SingleSender:
    """Sends single records through kafka-python's idempotent producer without blocking the event loop."""

    def __init__(self, of: Settings, memory: MemoryLimit) -> None:
        self._of, self._memory = of, memory
        self._producer: KafkaProducer | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def send(self, topic: str, message: Message) -> Stored:
        """Raises NotStored, and HTTPException 503 if too many bytes are already waiting for Kafka."""
        seconds = self._of.api_acknowledge_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._sent(topic, message)
        except TimeoutError:
            raise NotStored(f"Kafka at {self._of.kafka} did not acknowledge within {seconds:g} s") from None
        except KafkaError as error:
            raise NotStored(f"Kafka at {self._of.kafka} did not acknowledge: {error}") from None

    async def connect(self) -> None:
        """Returns once there is a producer. All callers share one attempt at a time; its timeout is that of a request."""
        while self._producer is None:
            if self._connecting is None or self._connecting.done():
                self._connecting = asyncio.create_task(self._connect())
            await asyncio.shield(self._connecting)
            if self._producer is None:
                await asyncio.sleep(_TRY_AGAIN_SECONDS)

    async def close(self) -> None:
        """Waits until all records handed to the producer are settled."""
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        if self._producer is not None:
            await self._close(self._producer)
        if self._closing:
            await asyncio.wait(self._closing)

    async def _connect(self) -> None:
        milliseconds = self._of.api_acknowledge_seconds * 1000
        try:
            self._producer = await asyncio.to_thread(
                KafkaProducer,
                **kafka_python_options(self._of),
                client_id="tidemark-api",
                acks="all",
                enable_idempotence=True,
                compression_type="lz4",
                # Records never expire in the producer, so it keeps its producer id (kafka-python 3.0.12 obtains no new one after a record
                # has expired). A record that is stored late overtakes nothing: it counts as registered when its request ended.
                delivery_timeout_ms=_FOR_EVER_MS,
                request_timeout_ms=milliseconds,
                bootstrap_timeout_ms=milliseconds,
                # send() would block the event loop while it waits for an unknown topic; the caller retries instead.
                max_block_ms=1,
                max_request_size=MAX_MESSAGE_BYTES,
                metadata_max_age_ms=60_000,
                reconnect_backoff_max_ms=1_000,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except (KafkaError, OSError) as error:
            log.warning("cannot connect to Kafka at %s: %s", self._of.kafka, error)

    async def _sent(self, topic: str, message: Message) -> Stored:
        await self.connect()
        producer = self._producer
        assert producer is not None
        size = len(message.value) + _OVERHEAD_BYTES
        self._memory.reserve(size)
        try:
            handed_over = await self._handed_over(producer, topic, message)
        except BaseException:
            self._memory.release(size)
            raise
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[Stored] = loop.create_future()

        def settle(outcome: Stored | Exception) -> None:
            self._memory.release(size)
            if isinstance(outcome, Exception) and not isinstance(outcome, RetriableError):
                self._replace(producer)
            if settled.done():
                return
            if isinstance(outcome, Exception):
                settled.set_exception(outcome)
            else:
                settled.set_result(outcome)

        def on_outcome(outcome: Any) -> None:
            """Runs in the producer's thread."""
            if not isinstance(outcome, Exception):
                outcome = Stored(outcome.topic, outcome.partition, outcome.offset)
            with suppress(RuntimeError):  # the loop has ended, so nothing waits any more
                loop.call_soon_threadsafe(settle, outcome)

        handed_over.add_both(on_outcome)
        stored = await settled
        if stored.offset < 0:
            raise NotStored("Kafka did not report the offset")
        return stored

    async def _handed_over(self, producer: KafkaProducer, topic: str, message: Message) -> Any:
        headers = [(name, value.encode() if isinstance(value, str) else value or b"") for name, value in message.headers]
        while True:
            try:
                return producer.send(topic, message.value, message.key, headers)
            except (KafkaTimeoutError, ValueError):
                # The producer does not know the topic (any more); the record was not accepted.
                await asyncio.sleep(_TRY_AGAIN_SECONDS)

    def _replace(self, producer: KafkaProducer) -> None:
        """Discards a producer after a fatal error; the next request creates a new one."""
        if self._producer is producer:
            self._producer = None
            task = asyncio.create_task(self._close(producer))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, producer: KafkaProducer) -> None:
        try:
            await asyncio.to_thread(producer.close, timeout=self._of.api_acknowledge_seconds)
        except KafkaError as error:
            log.warning("closed the producer with unacknowledged records: %s", error)


class BatchSender:
    """Sends batches through the producer of ingestion, in its own threads."""

    def __init__(self, of: Settings) -> None:
        self._of = of
        self._producer: Producer | None = None
        self._places = asyncio.Semaphore(MAX_CONCURRENT_BATCHES)
        self._threads = ThreadPoolExecutor(MAX_CONCURRENT_BATCHES, thread_name_prefix="batch")

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Reserves a slot for a batch. Raises HTTPException 503 if none becomes free in time."""
        try:
            async with asyncio.timeout(self._of.api_acknowledge_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise HTTPException(503, "the server is busy with other batches: send it again later", RETRY_AFTER) from None
        try:
            yield
        finally:
            self._places.release()

    async def run(self, work: Callable[[], _Answer]) -> _Answer:
        """Runs blocking work outside the event loop. Requires a slot."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def send(self, topic: str, messages: Sequence[Message]) -> Acknowledged:
        """Sends a batch. Requires a slot. Raises NotAcknowledged, which lists the acknowledged messages."""
        producer = self._producer or self._new_producer()
        return await self.run(partial(produce, producer, topic, messages, self._of.api_acknowledge_seconds + _MARGIN_SECONDS))

    async def listen(self) -> None:
        """Polls the producer while no batch is being sent, so that its events do not accumulate."""
        while True:
            await asyncio.sleep(1)
            if self._producer is not None:
                self._producer.poll(0)

    async def close(self) -> None:
        """Flushes the producer."""
        if self._producer is not None:
            left = await self.run(partial(self._producer.flush, self._of.api_acknowledge_seconds))
            if left:
                log.warning("closed the batch producer with %s", counted(left, "unacknowledged event"))
        self._threads.shutdown()

    def _new_producer(self) -> Producer:
        milliseconds = self._of.api_acknowledge_seconds * 1000
        configuration: dict[str, Any] = {
            **librdkafka_options(self._of),
            **RECOMMENDED,
            "client.id": "tidemark-api",
            "message.timeout.ms": milliseconds,
            "request.timeout.ms": milliseconds,
            "socket.timeout.ms": milliseconds,
            "reconnect.backoff.max.ms": 1_000,
            "queue.buffering.max.kbytes": max(self._of.api_memory_bytes, self._of.api_body_bytes) // 1024,
            "log_level": 2,  # clients are told about every failed request, and metrics count them
        }

        def on_error(error: BulkError) -> None:
            """Discards the producer after a fatal error; the next batch creates a new one."""
            if error.fatal() and self._producer is made:
                log.warning("replacing the batch producer after a fatal error: %s", error)
                self._producer = None

        made = self._producer = Producer({**configuration, "error_cb": on_error}, logger=log)
        return made
