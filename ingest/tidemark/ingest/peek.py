"""Prints the last events of a topic, or one, with headers and validation result: `python -m tidemark.ingest.peek product`."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import KafkaError as ReadError
from kafka.errors import KafkaError
from pydantic import ValidationError
from pymongo.errors import PyMongoError
from rich.console import Console

from tidemark.catalog.cube import cell_of, label
from tidemark.catalog.epochs import kafka_offset
from tidemark.catalog.events import Event
from tidemark.catalog.observations import CategoryObservation, ProductObservation, Rejection
from tidemark.catalog.rules import Rules
from tidemark.catalog.words import counted, rule
from tidemark.ingest.files import FileKind
from tidemark.ingest.kinds import topic_of, validator_of
from tidemark.ingest.topics import admin
from tidemark.ingest.watch import fetch_end_offsets
from tidemark.serving import withdrawals
from tidemark.serving.database import connect, database_of
from tidemark.serving.documents import RetainedDocument
from tidemark.settings import Settings, describe_errors, settings
from tidemark.settings.kafka_clients import librdkafka_options
from tidemark.settings.kafka_rights import PEEK_GROUP
from tidemark.settings.sections import KafkaSettings

ANSWER_SECONDS = 10.0
MONGODB_SECONDS = 3.0
MAX_CHARACTERS = 1_000  # shown of a value


class NotReadable(Exception):
    """The events cannot be read; the message says why and what to do."""


def last(of: KafkaSettings, topic: str, count: int) -> list[Event]:
    """The newest events of a topic by Kafka's timestamps, oldest first. Raises NotReadable."""
    partitions = _partitions(of, topic)
    with _reader(of) as consumer:
        found = [event for one in partitions for event in _events(consumer, one, max(one["start"], one["offset"] - count), one["offset"])]
    return sorted(found, key=lambda event: (event.timestamp, event.partition, event.offset))[-count:]


def at(of: KafkaSettings, topic: str, partition: int, offset: int) -> list[Event]:
    """The event with these coordinates. Raises NotReadable, also if the topic no longer retains it."""
    there = [one for one in _partitions(of, topic) if one["partition"] == partition and one["start"] <= offset < one["offset"]]
    with _reader(of) as consumer:
        for one in there:
            if found := list(_events(consumer, one, offset, offset + 1)):
                return found
    raise NotReadable(
        f"topic {topic} has no event {partition}/{offset}: it may have been deleted after the topic's retention. "
        "Give the partition and offset of an event that the topic still has"
    )


@contextmanager
def _reader(of: KafkaSettings) -> Iterator[Consumer]:
    """A consumer; its errors are raised as NotReadable."""
    consumer = Consumer(
        {
            **librdkafka_options(of),
            "group.id": PEEK_GROUP,  # required by the client, but no group is joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,  # the default delays the end-of-partition event by half a second
            "isolation.level": "read_uncommitted",
            "logger": _NoLogger(),
        }
    )
    try:
        yield consumer
    except TimeoutError as error:
        raise _no_answer(of.kafka, error) from None
    except KafkaException as error:
        raise _no_answer(of.kafka, error.args[0].str()) from error
    finally:
        consumer.close()


def _partitions(of: KafkaSettings, topic: str) -> list[RetainedDocument]:
    try:
        with admin(of, ANSWER_SECONDS) as client:
            partitions = fetch_end_offsets(client, [topic])
    except KafkaError as error:
        raise _no_answer(of.kafka, error) from error
    if not partitions:
        raise NotReadable(f"Kafka at {of.kafka} has no topic {topic}: create it with `make start`")
    return partitions


def rules_in_force(console: Console, of: Settings) -> Rules:
    """The rules of the code and the withdrawals; if MongoDB does not answer, prints a warning and leaves out the withdrawals."""
    try:
        with connect(of.mongodb, within_seconds=MONGODB_SECONDS) as client:
            return withdrawals.in_force(database_of(client, of.database), of.rules)
    except PyMongoError:
        console.print("MongoDB does not answer: withdrawals are not taken into account", style="yellow")
        return of.rules


def validation_result(event: Event, kind: FileKind, rules: Rules) -> str:
    """The validation result of an event, as text."""
    match validator_of(kind)(event, rules):
        case Rejection(reason=reason):
            return f"rejected, {reason}: must be {rule(reason)}"
        case ProductObservation() as one:
            moment, cell = datetime.fromtimestamp(one.observed_at / 1000, UTC), cell_of(one)
            where = f"category {cell.category_id}, {label(cell.price_level)}{', best seller' if cell.is_best_seller else ''}"
            return f"valid: product {one.asin} as of {moment:%Y-%m-%d %H:%M:%S} UTC, in {where}"
        case CategoryObservation() as one:
            return f"valid: category {one.id} is named {one.name}"


def _no_answer(servers: str, why: object) -> NotReadable:
    return NotReadable(f"Kafka at {servers} does not answer ({why}): see `make status`")


def _events(consumer: Consumer, of: RetainedDocument, start: int, end: int) -> Iterator[Event]:
    """The events of a partition from offset `start` to `end` (exclusive), which may include transaction markers. Raises TimeoutError."""
    topic, partition = of["topic"], of["partition"]
    if start == end:
        return
    consumer.assign([TopicPartition(topic, partition, start)])
    while True:
        message = consumer.poll(ANSWER_SECONDS)
        if message is None:
            raise TimeoutError(f"no event of partition {partition} in {ANSWER_SECONDS:g} s")
        if (error := message.error()) is not None:
            if error.code() == ReadError._PARTITION_EOF:
                return
            raise KafkaException(error)
        offset, (_, timestamp) = message.offset(), message.timestamp()
        assert offset is not None
        if offset >= end:
            return
        headers: Any = message.headers() or ()
        yield Event(topic, partition, offset, timestamp, message.key(), message.value(), tuple(headers))


class _NoLogger:
    """Drops librdkafka's log: an unreachable server is reported once, as an error."""

    def log(self, *_: object) -> None:
        pass

    handle = debug = info = warning = error = critical = log


def _text(value: bytes | None) -> str:
    return "(none)" if value is None else value.decode(errors="backslashreplace")


def _show(console: Console, event: Event, kind: FileKind, rules: Rules) -> None:
    moment = datetime.fromtimestamp(event.timestamp / 1000, UTC).isoformat(timespec="milliseconds")
    console.print(f"{event.topic}/{event.partition}/{event.offset}  {moment}  key {_text(event.key)}", style="bold", markup=False)
    for name, content in event.headers:
        console.print(f"  {name}: {_text(content)}", markup=False)
    value = _text(event.value)
    console.print(f"  {value[:MAX_CHARACTERS]}", markup=False)
    if len(value) > MAX_CHARACTERS:
        console.print(f"  ... {counted(len(value) - MAX_CHARACTERS, 'more character')}", markup=False)
    verdict = validation_result(event, kind, rules)
    console.print(f"  {verdict}\n", style="green" if verdict.startswith("valid") else "red", markup=False)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tidemark.ingest.peek", description="Print the last events of a topic with their validation results."
    )
    parser.add_argument(
        "kind", type=FileKind, choices=list(FileKind), nargs="?", default=FileKind.PRODUCT, help="kind of the events (default %(default)s)"
    )
    parser.add_argument("--count", type=_count, default=5, metavar="N", help="number of events (default %(default)s)")
    parser.add_argument(
        "--at", type=_coordinates, metavar="PARTITION/OFFSET", help="this event instead, e.g. one that the quarantine or an answer names"
    )
    return parser.parse_args(arguments)


def _coordinates(text: str) -> tuple[int, int]:
    """Of stored offsets, too, as long as the log has not been replaced since."""
    found = re.fullmatch("([0-9]{1,9})/([0-9]{1,18})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text} is not a partition and an offset such as 2/1234")
    return int(found[1]), kafka_offset(int(found[2]))


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 to 100000")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    given, console = _arguments(arguments), Console(highlight=False, soft_wrap=True)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # an unreachable server is reported once, as an error
    try:
        of = settings()
        topic = topic_of(given.kind, of)
        events = last(of, topic, given.count) if given.at is None else at(of, topic, *given.at)
    except ValidationError as error:
        for line in describe_errors(error):
            console.print(line, style="red", markup=False)
        return 1
    except NotReadable as reason:
        console.print(str(reason), style="red", markup=False)
        return 1
    rules = rules_in_force(console, of)
    for event in events:
        _show(console, event, given.kind, rules)
    if not events:
        console.print(f"topic {topic} contains no events")
    return 0


if __name__ == "__main__":
    sys.exit(main())
