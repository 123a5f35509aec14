"""Produces a chunk and counts every acknowledgement; fewer than all of them is an error."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Kafka

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.topics import MAX_MESSAGE_BYTES
from tidemark.catalog.words import counted
from tidemark.ingest.files import InvalidFile, Readable
from tidemark.ingest.records import Message, Origin, messages
from tidemark.serving.ingestions import Chunk
from tidemark.settings.kafka_refusal import refusal

log = logging.getLogger(__name__)

_POLL_EVERY = 1_000  # messages between polls for acknowledgements
_PROGRESS_SECONDS = 5.0
_NEW_TOPIC_SECONDS = 2.0  # time until every broker knows a new topic

# Producer settings that exactness requires, in librdkafka's names: a key always maps to the same partition, retries lose nothing.
REQUIRED = {"partitioner": ("murmur2_random", "murmur2"), "acks": ("all", "-1"), "enable.idempotence": ("true",)}
_SYNONYMS = {"request.required.acks": "acks"}
# Settings that must not be present, and why.
REFUSED = {
    "default.topic.config": "it overrides the other settings",
    "delivery.report.only.error": "it suppresses the reports of acknowledged events",
    "transactional.id": "chunks are not sent in transactions",
}

# The configuration of our producers, besides bootstrap.servers.
RECOMMENDED: dict[str, Any] = {
    "partitioner": "murmur2_random",
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "linger.ms": 20,
    "batch.num.messages": 10_000,
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 200_000,
    "message.max.bytes": MAX_MESSAGE_BYTES,
}

# What a person can do about an error of Kafka, by error code.
_REMEDIES = {
    KafkaError.MSG_SIZE_TOO_LARGE: (
        f"set max.message.bytes of the topic and message.max.bytes of the connection to {MAX_MESSAGE_BYTES}, which fits every record"
    ),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow the user of the connection to write to the topic",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "allow the user of the connection to write to the topic",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic with `python -m tidemark.ingest.topics`",
    KafkaError._UNKNOWN_TOPIC: "create the topic with `python -m tidemark.ingest.topics`",
}


Note = Callable[[int, Kafka], object]


class UnsafeProducer(Exception):
    """A producer configuration that could lose, duplicate or misplace events."""


class NotAcknowledged(Exception):
    """Kafka has not acknowledged all messages. `acknowledged` are the numbers of those it has, counted from 0 in the order sent."""

    def __init__(self, reason: str, acknowledged: Iterable[int] = ()) -> None:
        super().__init__(reason)
        self.acknowledged = frozenset(acknowledged)


class NoAnswer(NotAcknowledged):
    """Kafka has not answered at all, so nothing was sent."""


class Acknowledged(NamedTuple):
    """How many events Kafka has acknowledged, and their end offset in each partition (exclusive)."""

    events: int
    ends: TideMark


def require_safe(configuration: Mapping[str, Any]) -> None:
    """Raises UnsafeProducer, naming each offending setting, if a librdkafka configuration does not guarantee exactness."""
    given = {_SYNONYMS.get(name, name): str(value).lower() for name, value in configuration.items()}
    wrong = [
        f"{name} must be {' or '.join(values)} (it is {given.get(name, 'not set')})"
        for name, values in REQUIRED.items()
        if given.get(name) not in values
    ]
    wrong += [f"{name} must not be set ({why})" for name, why in REFUSED.items() if name in given]
    if wrong:
        raise UnsafeProducer("the producer settings of the Kafka connection are unsafe: " + "; ".join(wrong))


def read_chunk(file: Readable, file_bytes: int, chunk: Chunk) -> bytes:
    """The chunk's bytes. Raises InvalidFile, naming the file, if they or the length of the file differ from the plan."""
    try:
        with file.open("rb") as raw:
            length = raw.seek(0, io.SEEK_END)
            raw.seek(chunk.start)
            content: bytes = raw.read(chunk.end - chunk.start)
    except FileNotFoundError:
        raise _changed(file, "it no longer exists") from None
    except InvalidFile as reason:
        raise InvalidFile(f"{file}: {reason}. Nothing was sent") from None
    if length != file_bytes:
        raise _changed(file, f"{length} bytes instead of {file_bytes}")
    if hashlib.sha256(content).hexdigest() != chunk.content:
        raise _changed(file, f"bytes {chunk.start} to {chunk.end} differ")
    return content


def _changed(file: Readable, how: str) -> InvalidFile:
    return InvalidFile(
        f"{file} has changed since it was planned ({how}). Nothing was sent. "
        "Restore the original file, or ingest the new one under a different name"
    )


class _Acknowledgements:
    """Delivery reports by message, received in whichever thread polls the producer."""

    def __init__(self, topic: str, note: Note | None) -> None:
        self.numbers: list[int] = []  # of the acknowledged messages
        self.failures: list[str] = []
        self.unplaced = 0
        self._topic, self._note = topic, note
        self._ends: dict[int, int] = {}  # by partition
        self._counted, self._newest = 0, time.monotonic()
        self._lock = threading.Lock()

    def on_delivery(self, number: int, error: KafkaError | None, message: Kafka) -> None:
        """Called for each message. Hot path: keep it cheap."""
        with self._lock:
            if error is not None:
                self.failures.append(_reason(error))
                return
            offset, partition = message.offset(), message.partition()
            if offset is None or partition is None:
                # When a retry finds the event already stored, the report may lack the offset.
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

    def start_waiting(self) -> None:
        self._newest = time.monotonic()

    def seconds_without_report(self) -> float:
        """Seconds since the last new delivery report, or since the wait began."""
        if self.all > self._counted:
            self._counted, self._newest = self.all, time.monotonic()
        return time.monotonic() - self._newest

    @property
    def ends(self) -> TideMark:
        return TideMark({TopicPartition(self._topic, partition): end for partition, end in self._ends.items()})


def produce(producer: Producer, topic: str, some: Iterable[Message], within_seconds: float, note: Note | None = None) -> Acknowledged:
    """Sends all messages and waits until Kafka has acknowledged each. `note` is called with the number and report of each one.

    Raises NotAcknowledged if Kafka has no such topic, rejects a message, or sends no delivery report for `within_seconds`.
    """
    _require_topic(producer, topic, within_seconds)
    acknowledged = _Acknowledgements(topic, note)
    sent, logged_at = 0, time.monotonic()

    def poll(seconds: float) -> None:
        try:
            producer.poll(seconds)
        except KafkaException as error:  # a fatal one: this producer sends nothing more
            reason = f"Kafka refuses the producer's events for topic {topic}: {_reason(error.args[0])}"
            raise NotAcknowledged(reason, acknowledged.numbers) from error

    def wait(seconds: float) -> None:
        poll(seconds)
        if acknowledged.seconds_without_report() > within_seconds:
            raise NotAcknowledged(
                f"Kafka has acknowledged nothing for {within_seconds:g} s ({len(acknowledged.numbers)} of {sent} events of this chunk so "
                "far). Check that Kafka is running, then run the task again",
                acknowledged.numbers,
            )

    for key, value, headers in some:
        waiting = False
        while True:
            try:
                producer.produce(topic, value, key, headers=headers, on_delivery=partial(acknowledged.on_delivery, sent))
                break
            except BufferError:
                if not waiting:
                    acknowledged.start_waiting()
                waiting = True
                wait(0.1)
            except KafkaException as error:
                reason = f"the Kafka producer rejected an event of {len(value)} bytes for topic {topic}: {_reason(error.args[0])}"
                raise NotAcknowledged(reason, acknowledged.numbers) from error
        sent += 1
        if sent % _POLL_EVERY == 0:
            poll(0)
            if acknowledged.failures:
                break
            if time.monotonic() - logged_at > _PROGRESS_SECONDS:
                logged_at = time.monotonic()
                log.info("%d events sent, %d acknowledged", sent, len(acknowledged.numbers))
    acknowledged.start_waiting()
    while acknowledged.all < sent:
        wait(0.2)
    if acknowledged.failures:
        reason = f"Kafka rejected {len(acknowledged.failures)} of {sent} events for topic {topic}: {acknowledged.failures[0]}"
        raise NotAcknowledged(reason, acknowledged.numbers)
    if acknowledged.unplaced:
        # Without the offsets it is impossible to tell when the chunk is served.
        reason = f"Kafka did not report the offsets of {acknowledged.unplaced} of {sent} events for topic {topic}: run the task again"
        raise NotAcknowledged(reason, acknowledged.numbers)
    return Acknowledged(sent, acknowledged.ends)


def _require_topic(producer: Producer, topic: str, within_seconds: float) -> None:
    """Lists all topics: a request for one topic would create it without its configuration if the broker auto-creates topics."""
    until = time.monotonic() + _NEW_TOPIC_SECONDS
    while True:
        try:
            topics = producer.list_topics(timeout=within_seconds).topics
        except KafkaException as error:
            raise NoAnswer(
                f"Kafka did not answer within {within_seconds:g} s ({error.args[0].str()}). Nothing was sent. "
                "Check that Kafka is running and that the address in the connection is correct, then run the task again"
            ) from error
        if topic in topics:
            return
        if time.monotonic() > until:
            raise NotAcknowledged(f"Kafka has no topic {topic}. Nothing was sent. Create it with `python -m tidemark.ingest.topics`")
        time.sleep(0.1)


@contextmanager
def explaining_refusals(configuration: Mapping[str, Any]) -> Iterator[None]:
    """Where a producer of this configuration gets no answer because Kafka refuses it, raises NotAcknowledged, which says why."""
    try:
        yield
    except NoAnswer as error:
        if why := refusal(configuration):
            raise NotAcknowledged(f"Kafka refuses the connection, so nothing was sent: {why}, then run the task again") from error
        raise


def _reason(error: KafkaError) -> str:
    """Kafka's error text, and what to do about it."""
    remedy = _REMEDIES.get(error.code())
    return f"{error.str()} ({error.name()})" + (f": {remedy}" if remedy else "")


def produce_chunk(
    producer: Producer, topic: str, file: Readable, file_bytes: int, chunk: Chunk, origin: Origin, within_seconds: float
) -> Acknowledged:
    """Reads a planned chunk of a file of `file_bytes` bytes and produces it.

    Raises what read_chunk and produce raise, and NotAcknowledged if the number of events differs from the number of rows.
    """
    done = produce(producer, topic, messages(read_chunk(file, file_bytes, chunk), chunk.start, origin), within_seconds)
    if done.events != chunk.rows:
        rows, events = counted(chunk.rows, "row"), counted(done.events, "acknowledged event")
        raise NotAcknowledged(f"chunk {chunk.number} of {file} has {rows} but {events}")
    return done
