"""Landing: copies events that the raw history does not hold yet from Kafka, independently of the stream's progress."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from tidemark.catalog.epochs import epoch_of, kafka_offset
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.words import counted
from tidemark.serving.bindings import ADOPT, Binding, TopicsRecreated
from tidemark.serving.ledger import Ledger
from tidemark.settings.kafka_clients import spark_options
from tidemark.settings.sections import KafkaSettings
from tidemark.spark.lake import Lake
from tidemark.spark.log import Log, describe_log, describe_topics, require_records
from tidemark.spark.transforms import events

log = logging.getLogger(__name__)

MAX_OFFSETS = 1_000_000  # per partition and landing, to limit what an interrupted landing must repeat


class ForeignLake(Exception):
    """The raw history belongs to another database."""


class OlderLake(Exception):
    """The raw history lacks events that no log has any more, or knows a log that this database has not adopted."""


def land(spark: SparkSession, lake: Lake, own: Ledger, of: KafkaSettings, most: int = MAX_OFFSETS) -> TideMark:
    """Lands the events between the table's own mark and the current end of the log; returns the mark reached.

    Raises ForeignLake, OlderLake, UnsafeTopic, TopicsRecreated, MissingOffsets, OtherRecords. Events landed by then stay landed.
    """
    require_own(lake, own.identity)
    before = now = lake.landed()
    found = describe_log(of, own.binding)
    start = mark = _require(lake, own.binding, found, before.mark)
    right_before, further_back = lake.records_before(_comparable(found, start), _comparable(found, before.began))
    require_records(of, found, right_before, further_back)
    lake.remember_topics(found.identities)
    end = TideMark(found.ends)
    while True:
        todo = {key: (mark[key], min(end[key], mark[key] + most)) for key in end if mark[key] < end[key]}
        if not todo:
            break
        records = events(read_log(spark, of, todo), own.binding.epoch)
        if not records.isEmpty():  # a landing without rows would use a number that no row records
            _append(lake, own.binding, of, records, now.landing + 1)
            now = lake.landed()
            mark = start_of_landing(own.binding, found, now.mark)
        elif all(until == end[key] for key, (_, until) in todo.items()):
            break  # only offsets without events are left, as transactions leave them
        else:
            most *= 2
    if now != before:
        # Spark continues at its offsets even if the log loses events meanwhile and others take their place. If this ends before the
        # comparison, the next landing compares the same records.
        require_records(of, found, right_before)
    log.info("%s landed; the raw history reaches %s", counted(start.behind(mark), "offset"), mark)
    return mark


def _comparable(found: Log, mark: TideMark) -> TideMark:
    """The partitions of a mark before which the raw history has events of the current log."""
    return TideMark({key: offset for key, offset in mark.items() if key in found.ends and epoch_of(offset - 1) == found.binding.epoch})


def _append(lake: Lake, binding: Binding, of: KafkaSettings, records: DataFrame, landing: int) -> None:
    try:
        lake.append(records, landing)
    except PySparkException:
        _require(lake, binding, describe_log(of, binding), lake.landed().mark)  # a problem of the log explains more than Spark's error
        raise
    # Spark continues at its offsets even if the topic was recreated meanwhile. Such events lie beyond every mark that the ledger will
    # reach, because it never continues in a recreated topic, so they are never used.
    _require_topics(lake, binding, describe_topics(of).identities)


def read_log(spark: SparkSession, of: KafkaSettings, todo: Mapping[TopicPartition, tuple[int, int]]) -> DataFrame:
    """Kafka's records between two offsets of each partition, the second exclusive. Offsets may be those of any epoch."""
    assigned: dict[str, list[int]] = {}
    bounds: tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]] = {}, {}
    for (topic, partition), offsets in todo.items():
        assigned.setdefault(topic, []).append(partition)
        for bound, offset in zip(bounds, offsets, strict=True):
            bound.setdefault(topic, {})[str(partition)] = kafka_offset(offset)
    return (
        spark.read.format("kafka")
        .options(**spark_options(of))
        .option("assign", json.dumps(assigned))
        .option("startingOffsets", json.dumps(bounds[0]))
        .option("endingOffsets", json.dumps(bounds[1]))
        .option("failOnDataLoss", "true")
        .option("includeHeaders", "true")
        .load()
    )


def require_own(lake: Lake, database: str) -> None:
    """Raises ForeignLake if the raw history belongs to another database. One without events belongs to the first that lands in it."""
    owner = lake.owner()
    if owner is None and not lake.landed().mark:
        lake.claim(database)
    elif owner != database:
        raise ForeignLake(
            f"the raw history at {lake.url} belongs to another database (identity {owner}, this one is {database}): this database was "
            "created or restored since, or two databases use one folder. If the other one is gone, run `python -m tidemark.spark.batch "
            "adopt`: it serves what the raw history holds. Otherwise set TIDEMARK_LAKE to a folder of its own"
        )


def _require_topics(lake: Lake, binding: Binding, found: Mapping[str, str]) -> None:
    """Raises TopicsRecreated if a topic is not the one whose events have been served or landed."""
    binding.require_topics(found)
    for topic, known in lake.topics().items():
        if found.get(topic, known) != known:
            raise TopicsRecreated(
                f"topic {topic} has id {found[topic]}, but the raw history holds events of id {known}: the topic was deleted and "
                f"recreated. Nothing has been changed. Restore the former topic. If it is lost, {ADOPT}"
            )


def _require(lake: Lake, binding: Binding, found: Log, landed: TideMark) -> TideMark:
    """The mark from which to land. Raises TopicsRecreated, OlderLake, MissingOffsets."""
    _require_topics(lake, binding, found.identities)
    remedy = f"Nothing has been changed. Restore the raw history. If it is lost, {ADOPT}"
    if any(epoch_of(offset) > binding.epoch for offset in landed.values()):
        raise OlderLake(f"the raw history at {lake.url} holds events of a log that this database has not adopted: {landed}. {remedy}")
    if not landed.reaches(binding.landed):
        raise OlderLake(
            f"the raw history at {lake.url} reaches {landed}, but it held the events below {binding.landed}, which no log has. {remedy}"
        )
    start = start_of_landing(binding, found, landed)
    # Only the topics of the settings: a raw history may hold others.
    found.require(TideMark({key: offset for key, offset in start.items() if key.topic in found.identities}))
    return start


def start_of_landing(binding: Binding, found: Log, landed: TideMark) -> TideMark:
    """The mark up to which the raw history has everything, whether of this log or of former ones."""
    return found.within(landed.joined(binding.origin))
