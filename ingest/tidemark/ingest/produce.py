"""Produces a chunk: every acknowledgement counted, anything less than all of them an error."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Kafka

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.topics import MOST_MESSAGE_BYTES
from tidemark.ingest.files import Readable, UnfitFile
from tidemark.ingest.records import Message, Origin, messages
from tidemark.serving.ingestions import Chunk

log = logging.getLogger(__name__)

_POLL_EVERY = 1_000  # messages between looks at the acknowledgements
_PROGRESS_SECONDS = 5.0
_NEW_TOPIC_SECONDS = 2.0  # until every broker knows a topic that has just been created

# What exactness needs of a producer, in librdkafka's names: the same key always in the same partition, nothing lost in a retry.
REQUIRED = {"partitioner": ("murmur2_random", "murmur2"), "acks": ("all", "-1"), "enable.idempotence": ("true",)}
_SYNONYMS = {"request.required.acks": "acks"}
# What must not be set at all, and why.
REFUSED = {
    "default.topic.config": "it overrides the other settings",
    "delivery.report.only.error": "then what Kafka acknowledges is not told",
    "transactional.id": "chunks are not sent in transactions",
}

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


# What a person can do about Kafka's refusals, by error code.
_REMEDIES = {
    KafkaError.MSG_SIZE_TOO_LARGE: (
        f"let the topic's max.message.bytes and the connection's message.max.bytes be {MOST_MESSAGE_BYTES}, which fits every record"
    ),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow the connection's user to write to the topic",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "run `python -m tidemark.ingest.topics`",
    KafkaError._UNKNOWN_TOPIC: "run `python -m tidemark.ingest.topics`",
}


Note = Callable[[int, Kafka], object]


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
    wrong += [f"{name} must not be set: {why} (it is {given[name]})" for name, why in REFUSED.items() if name in given]
    if wrong:
        raise UnsafeProducer("the Kafka connection's producer is not safe to use: " + "; ".join(wrong))


def read_chunk(file: Readable, file_bytes: int, chunk: Chunk) -> bytes:
    """The chunk's bytes. UnfitFile, naming the file, where they are not those that were planned, or it is not that long any more."""
    try:
        with file.open("rb") as raw:
            length = raw.seek(0, io.SEEK_END)
            raw.seek(chunk.start)
            content: bytes = raw.read(chunk.end - chunk.start)
    except FileNotFoundError:
        raise _changed(file, "it is gone") from None
    except UnfitFile as reason:
        raise UnfitFile(f"{file}: {reason}. Nothing of this chunk has been sent") from None
    if length != file_bytes:
        raise _changed(file, f"{length} bytes, not {file_bytes}")
    if hashlib.sha256(content).hexdigest() != chunk.content:
        raise _changed(file, f"bytes {chunk.start} to {chunk.end} are others")
    return content


def _changed(file: Readable, how: str) -> UnfitFile:
    return UnfitFile(
        f"{file} has changed since it was planned ({how}): nothing of this chunk has been sent. "
        "Put the former file back, or ingest the new one under a name of its own"
    )


class _Acknowledgements:
    """What Kafka says of each message, in whatever thread asks the producer."""

    def __init__(self, topic: str, note: Note | None) -> None:
        self.numbers: list[int] = []  # of what is acknowledged
        self.failures: list[str] = []
        self.unplaced = 0
        self._topic, self._note = topic, note
        self._ends: dict[int, int] = {}  # by partition
        self._looked_at, self._newest = 0, time.monotonic()
        self._lock = threading.Lock()

    def hear(self, number: int, error: KafkaError | None, message: Kafka) -> None:
        """Called once a message, so it does no more than it must."""
        with self._lock:
            if error is not None:
                self.failures.append(_reason(error))
                return
            offset, partition = message.offset(), message.partition()
            if offset is None or partition is None:
                # A retry that finds the event stored already may be told no offset.
                self.unplaced += 1
                return
            self.numbers.append(number)
            if offset >= self._ends.get(partition, 0):
                self._ends[partition] = offset + 1
            if self._note is not None:
                self._note(number, message)

    @property
    def all(self) -> int:
        return len(self.numbers) + len(self.failures) + self.unplaced

    def begin_to_wait(self) -> None:
        self._newest = time.monotonic()

    def silent_seconds(self) -> float:
        """Since there was something new to hear, or the wait began."""
        if self.all > self._looked_at:
            self._looked_at, self._newest = self.all, time.monotonic()
        return time.monotonic() - self._newest

    @property
    def ends(self) -> TideMark:
        return TideMark({TopicPartition(self._topic, partition): end for partition, end in self._ends.items()})


def produce(producer: Producer, topic: str, some: Iterable[Message], within_seconds: float, note: Note | None = None) -> Acknowledged:
    """Sends all messages and waits until Kafka has acknowledged each of them. `note` is given each that it has, with its number.

    Raises NotAcknowledged where Kafka has no such topic or refuses a message, or where nothing is heard of it for `within_seconds`.
    """
    _require_topic(producer, topic, within_seconds)
    heard = _Acknowledgements(topic, note)
    sent, told = 0, time.monotonic()

    def wait(seconds: float) -> None:
        producer.poll(seconds)
        if heard.silent_seconds() > within_seconds:
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
                reason = f"Kafka's producer refuses an event of {len(value)} bytes for {topic}: {_reason(error.args[0])}"
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
    if heard.unplaced:
        # Without their offsets nobody could tell when the chunk is served.
        reason = f"Kafka does not say at which offsets {heard.unplaced} of {sent} events for {topic} are: run the task again"
        raise NotAcknowledged(reason, heard.numbers)
    return Acknowledged(sent, heard.ends)


def _require_topic(producer: Producer, topic: str, within_seconds: float) -> None:
    """All topics are asked for: asking for one creates it, with none of its configuration, where a broker is set to do so."""
    until = time.monotonic() + _NEW_TOPIC_SECONDS
    while True:
        try:
            topics = producer.list_topics(timeout=within_seconds).topics
        except KafkaException as error:
            raise NotAcknowledged(
                f"Kafka has not answered within {within_seconds:g} s ({error.args[0].str()}): is it running, and is the connection's "
                "address right? Nothing has been sent. Once it answers, run the task again"
            ) from error
        if topic in topics:
            return
        if time.monotonic() > until:
            raise NotAcknowledged(f"Kafka has no topic {topic}: run `python -m tidemark.ingest.topics`. Nothing has been sent")
        time.sleep(0.1)


def _reason(error: KafkaError) -> str:
    """What Kafka says, and what to do about it."""
    remedy = _REMEDIES.get(error.code())
    return f"{error.str()} ({error.name()})" + (f": {remedy}" if remedy else "")


def produce_chunk(
    producer: Producer, topic: str, file: Readable, file_bytes: int, chunk: Chunk, origin: Origin, within_seconds: float
) -> Acknowledged:
    """Reads a planned chunk of a file that long and produces it.

    Raises what read_chunk and produce raise, NotAcknowledged where rows are not all events.
    """
    done = produce(producer, topic, messages(read_chunk(file, file_bytes, chunk), chunk.start, origin), within_seconds)
    if done.events != chunk.rows:
        raise NotAcknowledged(f"chunk {chunk.number} of {file} has {chunk.rows} rows, {done.events} events were acknowledged")
    return done
