"""Produces a chunk: every acknowledgement counted, anything less than all of them an error."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Kafka

from catalog.marks import TideMark, TopicPartition
from catalog.topics import MOST_MESSAGE_BYTES
from ingest.files import Kind, Readable, UnfitFile, header, records
from ingest.records import Message, Origin, messages
from serving.ingestions import Chunk

log = logging.getLogger(__name__)

_POLL_EVERY = 1_000  # messages between looks at the acknowledgements
_PROGRESS_SECONDS = 5.0

# What exactness needs of a producer, in librdkafka's names: the same key always in the same partition, nothing lost in a retry.
REQUIRED = {"partitioner": ("murmur2_random", "murmur2"), "acks": ("all", "-1"), "enable.idempotence": ("true",)}
_SYNONYMS = {"request.required.acks": "acks"}

# What a producer of ours is configured with, beside bootstrap.servers.
RECOMMENDED: dict[str, Any] = {
    "partitioner": "murmur2_random",
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "linger.ms": 20,
    "batch.num.messages": 10_000,
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 200_000,
    "message.max.bytes": MOST_MESSAGE_BYTES,
}


class UnsafeProducer(Exception):
    """A producer's configuration could lose, double or misplace events."""


class NotAcknowledged(Exception):
    """Kafka has not acknowledged all that was produced. `acknowledged` are the messages that it has, counted from 0 as they were sent."""

    def __init__(self, reason: str, acknowledged: Iterable[int] = ()) -> None:
        super().__init__(reason)
        self.acknowledged = frozenset(acknowledged)


class Acknowledged(NamedTuple):
    """How many events Kafka has acknowledged, and where the newest of each partition ends (exclusive)."""

    events: int
    ends: TideMark


def require_safe(configuration: Mapping[str, Any]) -> None:
    """Raises UnsafeProducer, naming each setting and its value, where a librdkafka configuration is not exact."""
    given = {_SYNONYMS.get(name, name): str(value).lower() for name, value in configuration.items()}
    wrong = [
        f"{name} must be {' or '.join(values)} (it is {given.get(name, 'not set')})"
        for name, values in REQUIRED.items()
        if given.get(name) not in values
    ]
    if wrong:
        raise UnsafeProducer("the Kafka connection's producer is not safe to use: " + "; ".join(wrong))


def read_chunk(file: Readable, chunk: Chunk) -> bytes:
    """The chunk's bytes. UnfitFile where they are not those that were planned."""
    with file.open("rb") as raw:
        raw.seek(chunk.start)
        content: bytes = raw.read(chunk.end - chunk.start)
    if hashlib.sha256(content).hexdigest() != chunk.content:
        raise UnfitFile(
            f"{file} has changed since it was planned (bytes {chunk.start} to {chunk.end}): nothing of this chunk has been sent. "
            "Put the former file back, or ingest the new one under a name of its own"
        )
    return content


def read_columns(file: Readable, kind: Kind) -> tuple[str, ...]:
    """The file's columns, read again from its first line."""
    with file.open("rb") as raw:
        first = next(records(raw), None)
        return header(first.fields if first else [], kind)


class _Acknowledgements:
    """What Kafka says of each message, in whatever thread asks the producer."""

    def __init__(self) -> None:
        self.numbers: list[int] = []  # of what is acknowledged
        self.ends: dict[TopicPartition, int] = {}
        self.failures: list[str] = []
        self._newest = time.monotonic()
        self._lock = threading.Lock()

    def hear(self, number: int, error: KafkaError | None, message: Kafka) -> None:
        with self._lock:
            self._newest = time.monotonic()
            if error is not None:
                self.failures.append(str(error))
                return
            self.numbers.append(number)
            key = TopicPartition(message.topic() or "", message.partition() or 0)
            self.ends[key] = max(self.ends.get(key, 0), (message.offset() or 0) + 1)

    @property
    def all(self) -> int:
        return len(self.numbers) + len(self.failures)

    @property
    def silent_seconds(self) -> float:
        """Since the newest one."""
        return time.monotonic() - self._newest

    def begin_to_wait(self) -> None:
        self._newest = time.monotonic()


def produce(producer: Producer, topic: str, some: Iterable[Message], within_seconds: float) -> Acknowledged:
    """Sends all messages and waits until Kafka has acknowledged each of them.

    Raises NotAcknowledged where none is acknowledged for `within_seconds`, or where Kafka refuses one.
    """
    heard = _Acknowledgements()
    sent, told = 0, time.monotonic()

    def wait(seconds: float) -> None:
        producer.poll(seconds)
        if heard.silent_seconds > within_seconds:
            raise NotAcknowledged(
                f"Kafka has acknowledged nothing for {within_seconds:g} s ({len(heard.numbers)} of {sent} events of this chunk so far): "
                "is it running? Once it is, run the task again",
                heard.numbers,
            )

    for key, value, headers in some:
        waiting = False
        while True:
            try:
                producer.produce(topic, value, key, headers=headers, on_delivery=partial(heard.hear, sent))
                break
            except BufferError:
                if not waiting:
                    heard.begin_to_wait()
                waiting = True
                wait(0.1)
            except KafkaException as error:
                reason = f"Kafka's producer refuses an event of {len(value)} bytes for {topic}: {error}"
                raise NotAcknowledged(reason, heard.numbers) from error
        sent += 1
        if sent % _POLL_EVERY == 0:
            producer.poll(0)
            if heard.failures:
                break
            if time.monotonic() - told > _PROGRESS_SECONDS:
                told = time.monotonic()
                log.info("%d events sent, %d acknowledged", sent, len(heard.numbers))
    heard.begin_to_wait()
    while heard.all < sent:
        wait(0.2)
    if heard.failures:
        raise NotAcknowledged(f"Kafka refused {len(heard.failures)} of {sent} events for {topic}: {heard.failures[0]}", heard.numbers)
    return Acknowledged(sent, TideMark(heard.ends))


def produce_chunk(producer: Producer, topic: str, file: Readable, chunk: Chunk, origin: Origin, within_seconds: float) -> Acknowledged:
    """Reads a planned chunk and produces it. Raises what read_chunk and produce raise, NotAcknowledged where rows are not all events."""
    done = produce(producer, topic, messages(read_chunk(file, chunk), chunk.start, origin), within_seconds)
    if done.events != chunk.rows:
        raise NotAcknowledged(f"chunk {chunk.number} of {file} has {chunk.rows} rows, {done.events} events were acknowledged")
    return done
