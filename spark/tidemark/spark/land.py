"""Landing: copies from Kafka to the raw history what it does not hold yet, however far the stream has come."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving.ledger import TopicsRecreated
from tidemark.settings import settings
from tidemark.spark.lake import Lake
from tidemark.spark.log import Log, describe_log, identities
from tidemark.spark.transforms import events

log = logging.getLogger(__name__)

MOST_OFFSETS = 1_000_000  # of a partition in one landing, so that one cut short has not much to repeat


def land(spark: SparkSession, lake: Lake, most: int = MOST_OFFSETS) -> TideMark:
    """Lands what lies between the table's own mark and the log's end as it is found; returns the mark reached.

    Raises UnfitTopic, TopicsRecreated, MissingOffsets. What has been landed by then stays landed.
    """
    before = now = lake.landed()
    found = describe_log()
    _require(lake, found, before.mark)
    lake.remember_topics(found.identities)
    end = TideMark(found.ends)
    while True:
        todo = {key: (now.mark[key], min(end[key], now.mark[key] + most)) for key in end if now.mark[key] < end[key]}
        if not todo:
            break
        records = events(_read(spark, todo))
        if not records.isEmpty():  # one without rows would take a number that no row tells of
            _append(lake, records, now.landing + 1)
            now = lake.landed()
        elif all(until == end[key] for key, (_, until) in todo.items()):
            break  # what is left are offsets without events, as transactions leave them
        else:
            most *= 2
    log.info("%d offsets landed; the raw history reaches %s", before.mark.behind(now.mark), now.mark)
    return now.mark


def _append(lake: Lake, records: DataFrame, landing: int) -> None:
    try:
        lake.append(records, landing)
    except PySparkException:
        _require(lake, describe_log(), lake.landed().mark)  # if something is wrong with the log, that is what Spark has stumbled over
        raise
    # Spark reads on where it was, whatever stands there. Events of a topic created again while they were read lie beyond every
    # mark of the ledger's, which never goes on in such a topic, so that nothing is made of them.
    require_topics(lake, identities())


def _read(spark: SparkSession, todo: Mapping[TopicPartition, tuple[int, int]]) -> DataFrame:
    assigned: dict[str, list[int]] = {}
    bounds: tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]] = {}, {}
    for (topic, partition), offsets in todo.items():
        assigned.setdefault(topic, []).append(partition)
        for bound, offset in zip(bounds, offsets, strict=True):
            bound.setdefault(topic, {})[str(partition)] = offset
    return (
        spark.read.format("kafka")
        .option("kafka.bootstrap.servers", settings().kafka)
        .option("assign", json.dumps(assigned))
        .option("startingOffsets", json.dumps(bounds[0]))
        .option("endingOffsets", json.dumps(bounds[1]))
        .option("failOnDataLoss", "true")
        .option("includeHeaders", "true")
        .load()
    )


def require_topics(lake: Lake, found: Mapping[str, str]) -> None:
    """Raises TopicsRecreated where a topic is not the one whose events have been landed."""
    for topic, known in lake.topics().items():
        if found.get(topic, known) != known:
            raise TopicsRecreated(
                f"topic {topic} has id {found[topic]}, the raw history holds events of id {known}: the topic was deleted and created "
                "again. Bring the former topic back, or start with an empty database (setting TIDEMARK_DATABASE, and TIDEMARK_LAKE "
                "where that is set)"
            )


def _require(lake: Lake, found: Log, landed: TideMark) -> None:
    require_topics(lake, found.identities)
    # Of topics that the settings name: a raw history may hold others.
    found.require(TideMark({key: offset for key, offset in landed.items() if key.topic in found.identities}))
