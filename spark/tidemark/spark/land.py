"""Landing: copies events that the raw history does not hold yet from Kafka, independently of the stream's progress."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.words import counted
from tidemark.serving.ledger import TopicsRecreated
from tidemark.settings.sections import KafkaSettings
from tidemark.spark.lake import Lake
from tidemark.spark.log import Log, describe_log, identities
from tidemark.spark.transforms import events

log = logging.getLogger(__name__)

MAX_OFFSETS = 1_000_000  # per partition and landing, to limit what an interrupted landing must repeat


class ForeignLake(Exception):
    """The raw history belongs to another database."""


def land(spark: SparkSession, lake: Lake, database: str, of: KafkaSettings, most: int = MAX_OFFSETS) -> TideMark:
    """Lands the events between the table's own mark and the current end of the log; returns the mark reached.

    `database` is the database's identity. Raises ForeignLake, UnsafeTopic, TopicsRecreated, MissingOffsets. Events landed by then stay
    landed.
    """
    require_own(lake, database)
    before = now = lake.landed()
    found = describe_log(of)
    _require(lake, found, before.mark)
    lake.remember_topics(found.identities)
    end = TideMark(found.ends)
    while True:
        todo = {key: (now.mark[key], min(end[key], now.mark[key] + most)) for key in end if now.mark[key] < end[key]}
        if not todo:
            break
        records = events(_read(spark, of.kafka, todo))
        if not records.isEmpty():  # a landing without rows would use a number that no row records
            _append(lake, of, records, now.landing + 1)
            now = lake.landed()
        elif all(until == end[key] for key, (_, until) in todo.items()):
            break  # only offsets without events are left, as transactions leave them
        else:
            most *= 2
    log.info("%s landed; the raw history reaches %s", counted(before.mark.behind(now.mark), "offset"), now.mark)
    return now.mark


def _append(lake: Lake, of: KafkaSettings, records: DataFrame, landing: int) -> None:
    try:
        lake.append(records, landing)
    except PySparkException:
        _require(lake, describe_log(of), lake.landed().mark)  # a problem of the log explains more than Spark's error
        raise
    # Spark continues at its offsets even if the topic was recreated meanwhile. Such events lie beyond every mark that the ledger will
    # reach, because it never continues in a recreated topic, so they are never used.
    require_topics(lake, identities(of))


def _read(spark: SparkSession, servers: str, todo: Mapping[TopicPartition, tuple[int, int]]) -> DataFrame:
    assigned: dict[str, list[int]] = {}
    bounds: tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]] = {}, {}
    for (topic, partition), offsets in todo.items():
        assigned.setdefault(topic, []).append(partition)
        for bound, offset in zip(bounds, offsets, strict=True):
            bound.setdefault(topic, {})[str(partition)] = offset
    return (
        spark.read.format("kafka")
        .option("kafka.bootstrap.servers", servers)
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


def require_topics(lake: Lake, found: Mapping[str, str]) -> None:
    """Raises TopicsRecreated if a topic is not the one whose events have been landed."""
    for topic, known in lake.topics().items():
        if found.get(topic, known) != known:
            raise TopicsRecreated(
                f"topic {topic} has id {found[topic]}, but the raw history holds events of id {known}: the topic was deleted and "
                "recreated. Restore the former topic, or start with an empty database (setting TIDEMARK_DATABASE, and TIDEMARK_LAKE "
                "if it is set)"
            )


def _require(lake: Lake, found: Log, landed: TideMark) -> None:
    require_topics(lake, found.identities)
    # Only the topics of the settings: a raw history may hold others.
    found.require(TideMark({key: offset for key, offset in landed.items() if key.topic in found.identities}))
