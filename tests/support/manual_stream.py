"""A stream under the control of a test: it runs micro-batches of given events, in this process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from support.places import Place

from tidemark.catalog.epochs import first_of
from tidemark.catalog.events import Event
from tidemark.catalog.marks import TopicPartition
from tidemark.catalog.rules import RULES, Rules
from tidemark.serving import ledger, withdrawals
from tidemark.spark import transforms
from tidemark.spark.log import Log, describe_log, describe_topics
from tidemark.spark.microbatch import MicroBatches

KAFKA = (
    "topic string, partition int, offset bigint, timestamp timestamp, key binary, value binary, "
    "headers array<struct<key: string, value: binary>>"
)


def kafka(spark: SparkSession, events: Iterable[Event]) -> DataFrame:
    """Events as Spark's source has them."""

    def binary(value: bytes | None) -> bytearray | None:
        return None if value is None else bytearray(value)

    rows = [
        (
            *(event.topic, event.partition, event.offset, datetime.fromtimestamp(event.timestamp / 1000, UTC)),
            *(binary(event.key), binary(event.value), [(name, binary(value)) for name, value in event.headers] or None),
        )
        for event in events
    ]
    return spark.createDataFrame(rows, KAFKA)


class Stream:
    """A generation whose micro-batches a test runs."""

    def __init__(
        self,
        spark: SparkSession,
        place: Place,
        partitions: Iterable[TopicPartition],
        category_topic: str,
        rules: Rules = RULES,
    ) -> None:
        own = ledger.start_generation(place.database, rules.fingerprint(), describe_topics(place.settings).identities)
        ends = dict.fromkeys(partitions, first_of(own.binding.epoch))
        self._rules = rules
        self.spark, self.place, self.generation, self.number, self.epoch = spark, place, own.generation, 0, own.binding.epoch
        self._category_topic = category_topic
        self.batches = MicroBatches(place.database, place.settings, own, Log(describe_topics(place.settings), ends, ends, own.binding))

    def run(self, events: Sequence[Event]) -> None:
        observed = transforms.observed(
            transforms.events(kafka(self.spark, events), self.epoch), self._category_topic, self._rules, digests=True
        )
        self.batches.run(observed, self.number)
        self.number += 1

    def next(self, log: Iterable[Event], most: int) -> list[Event]:
        """What it has not served, as many as that, in the order of each partition's offsets."""
        begin = first_of(self.epoch)
        left = [event for event in log if not self.batches.offsets.covers(event._replace(offset=begin + event.offset))]
        return sorted(left, key=lambda event: (event.partition, event.offset))[:most]


def stream_of(place: Place, spark: SparkSession, rules: Rules | None = None) -> Stream:
    """A generation on the place's own topics, by the rules in force or by others."""
    return Stream(
        spark,
        place,
        describe_log(place.settings).ends,
        place.settings.category_topic,
        rules or withdrawals.in_force(place.database, place.settings.rules),
    )


def serve(place: Place, spark: SparkSession, stream: Stream | None = None) -> Stream:
    """All there is in the log, by a new generation unless there is one, in two micro-batches."""
    stream = stream or stream_of(place, spark)
    log = place.log()
    half = len(stream.next(log, len(log))) // 2 + 1
    while events := stream.next(log, half):
        stream.run(events)
    return stream
