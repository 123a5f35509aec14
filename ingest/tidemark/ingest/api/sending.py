"""The API's two producers, each made once and used by all requests: single records go by kafka-python, batches as ingestion goes.

An answer of success means that Kafka has the event. No answer in time means that it may have it, or get it still: what is told to a
client is therefore to send the same again, which changes no state.
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

from tidemark.catalog.topics import MOST_MESSAGE_BYTES
from tidemark.ingest.api.bodies import RETRY_AFTER, Room
from tidemark.ingest.produce import RECOMMENDED, Acknowledged, produce
from tidemark.ingest.records import Message
from tidemark.settings import Settings

log = logging.getLogger("tidemark.api")

BATCHES_AT_ONCE = 4
_TRY_AGAIN_SECONDS = 0.05
_MARGIN_SECONDS = 1.0  # the producer of batches gives a message up at the limit, and is heard a little later
_OVERHEAD_BYTES = 2_048  # of a record that waits
_FOR_EVER_MS = 2**31 - 1

_Answer = TypeVar("_Answer")


class Stored(NamedTuple):
    """Where Kafka has put an event."""

    topic: str
    partition: int
    offset: int


class NotStored(Exception):
    """Kafka has not acknowledged a record in time: it may be in the log, or get there, or not."""


class SingleSender:
    """Sends one record at a time by kafka-python, idempotently, without holding up the event loop."""

    def __init__(self, of: Settings, room: Room) -> None:
        self._of, self._room = of, room
        self._producer: KafkaProducer | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def send(self, topic: str, message: Message) -> Stored:
        """Raises NotStored, and HTTPException 503 where too much is waiting for Kafka already."""
        seconds = self._of.api_acknowledge_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._sent(topic, message)
        except TimeoutError:
            raise NotStored(f"Kafka at {self._of.kafka} has not acknowledged it within {seconds:g} s") from None
        except KafkaError as error:
            raise NotStored(f"Kafka at {self._of.kafka} has not acknowledged it: {error}") from None

    async def connect(self) -> None:
        """Returns when there is a producer. One attempt at a time, whoever waits; each is as long as a request may take."""
        while self._producer is None:
            if self._connecting is None or self._connecting.done():
                self._connecting = asyncio.create_task(self._connect())
            await asyncio.shield(self._connecting)
            if self._producer is None:
                await asyncio.sleep(_TRY_AGAIN_SECONDS)

    async def close(self) -> None:
        """Waits for what has been handed over."""
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
                bootstrap_servers=self._of.kafka.split(","),
                client_id="tidemark-api",
                acks="all",
                enable_idempotence=True,
                compression_type="lz4",
                # What is handed over is sent until Kafka has it, however long that takes: so nothing that comes later overtakes it, and
                # the producer never gives up its identity (kafka-python 3.0.12 gets no other after a record has expired in it).
                delivery_timeout_ms=_FOR_EVER_MS,
                request_timeout_ms=milliseconds,
                bootstrap_timeout_ms=milliseconds,
                # send() would wait in the event loop for a topic it does not know: it is asked again instead.
                max_block_ms=1,
                max_request_size=MOST_MESSAGE_BYTES,
                metadata_max_age_ms=60_000,
                reconnect_backoff_max_ms=1_000,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except (KafkaError, OSError) as error:
            log.warning("no connection to Kafka at %s: %s", self._of.kafka, error)

    async def _sent(self, topic: str, message: Message) -> Stored:
        await self.connect()
        producer = self._producer
        assert producer is not None
        size = len(message.value) + _OVERHEAD_BYTES
        self._room.take(size)
        try:
            handed_over = await self._handed_over(producer, topic, message)
        except BaseException:
            self._room.give_back(size)
            raise
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[Stored] = loop.create_future()

        def settle(outcome: Stored | Exception) -> None:
            self._room.give_back(size)
            if isinstance(outcome, Exception) and not isinstance(outcome, RetriableError):
                self._replace(producer)
            if settled.done():
                return
            if isinstance(outcome, Exception):
                settled.set_exception(outcome)
            else:
                settled.set_result(outcome)

        def heard(outcome: Any) -> None:
            """In the producer's thread."""
            if not isinstance(outcome, Exception):
                outcome = Stored(outcome.topic, outcome.partition, outcome.offset)
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(settle, outcome)

        handed_over.add_both(heard)
        stored = await settled
        if stored.offset < 0:
            raise NotStored("Kafka does not say where it is")
        return stored

    async def _handed_over(self, producer: KafkaProducer, topic: str, message: Message) -> Any:
        headers = [(name, value.encode() if isinstance(value, str) else value or b"") for name, value in message.headers]
        while True:
            try:
                return producer.send(topic, message.value, message.key, headers)
            except (KafkaTimeoutError, ValueError):
                # The producer does not know the topic yet, or not any more; nothing has been handed over.
                await asyncio.sleep(_TRY_AGAIN_SECONDS)

    def _replace(self, producer: KafkaProducer) -> None:
        """A producer to which something final has happened may never send again: the next request makes another."""
        if self._producer is producer:
            self._producer = None
            task = asyncio.create_task(self._close(producer))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, producer: KafkaProducer) -> None:
        try:
            await asyncio.to_thread(producer.close, timeout=self._of.api_acknowledge_seconds)
        except KafkaError as error:
            log.warning("closed with records that Kafka has not acknowledged: %s", error)


class BatchSender:
    """Sends batches by the producer that ingestion has, in threads of its own."""

    def __init__(self, of: Settings) -> None:
        self._of = of
        self._producer: Producer | None = None
        self._places = asyncio.Semaphore(BATCHES_AT_ONCE)
        self._threads = ThreadPoolExecutor(BATCHES_AT_ONCE, thread_name_prefix="batch")

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """One of the few places for batches. HTTPException 503 where none is free in time."""
        try:
            async with asyncio.timeout(self._of.api_acknowledge_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise HTTPException(503, "too many batches are under way here: post it again later", RETRY_AFTER) from None
        try:
            yield
        finally:
            self._places.release()

    async def run(self, work: Callable[[], _Answer]) -> _Answer:
        """What takes long, beside the event loop; for who has a place."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def send(self, topic: str, messages: Sequence[Message]) -> Acknowledged:
        """Raises NotAcknowledged, which says what has been; for who has a place."""
        producer = self._producer or self._new_producer()
        return await self.run(partial(produce, producer, topic, messages, self._of.api_acknowledge_seconds + _MARGIN_SECONDS))

    async def listen(self) -> None:
        """Hears what the producer says while no batch is under way, so that nothing heaps up in it."""
        while True:
            await asyncio.sleep(1)
            if self._producer is not None:
                self._producer.poll(0)

    async def close(self) -> None:
        """Waits for what has been handed over."""
        if self._producer is not None:
            left = await self.run(partial(self._producer.flush, self._of.api_acknowledge_seconds))
            if left:
                log.warning("closed with %d events of batches that Kafka has not acknowledged", left)
        self._threads.shutdown()

    def _new_producer(self) -> Producer:
        milliseconds = self._of.api_acknowledge_seconds * 1000
        configuration: dict[str, Any] = {
            "bootstrap.servers": self._of.kafka,
            **RECOMMENDED,
            "client.id": "tidemark-api",
            "message.timeout.ms": milliseconds,
            "request.timeout.ms": milliseconds,
            "socket.timeout.ms": milliseconds,
            "reconnect.backoff.max.ms": 1_000,
            "queue.buffering.max.kbytes": max(self._of.api_memory_bytes, self._of.api_body_bytes) // 1024,
            "log_level": 2,  # each request that waits in vain is told to its client, and counted
        }

        def on_error(error: BulkError) -> None:
            """Where the producer cannot go on, the next batch makes another."""
            if error.fatal() and self._producer is made:
                log.warning("the producer of batches ends: %s", error)
                self._producer = None

        made = self._producer = Producer({**configuration, "error_cb": on_error}, logger=log)
        return made
