"""The raw history in Delta Lake: all raw events, append-only, and the states that publications are made of.

Table `events` holds Kafka's records unchanged, with the number of their landing. Table `states` holds layers: the states of the events
between two marks, or of all events below one. A publication names its layers; the newest state of a product over these layers is its
state. Layers are immutable, so publications may branch and attempts may overlap.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from math import ceil
from typing import Any, TypeVar
from uuid import uuid4

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemark.catalog.epochs import kafka_offset
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving import layout
from tidemark.serving.bindings import Record, Witness
from tidemark.spark import log_stores, transforms

log = logging.getLogger(__name__)

_EVENTS = """topic STRING, partition INT, offset BIGINT, timestamp BIGINT, key BINARY, value BINARY,
    headers ARRAY<STRUCT<key: STRING, value: BINARY>>, landing BIGINT"""
_STATE_PROPERTIES = {"delta.dataSkippingNumIndexedCols": "0"}  # layers are read whole: statistics would take a tenth of the write time
# File statistics of these columns only: they select the files for a mark; statistics of values would be large.
_EVENT_PROPERTIES = {"delta.appendOnly": "true", "delta.dataSkippingStatsColumns": "topic,partition,offset,timestamp,landing"}
_TOPIC_ID = "tidemark.topic."  # prefix of a table property per topic
_OWNER = "tidemark.database"  # table property
_LAYOUT = "tidemark.layout"  # table property

_LANDING = "tidemark-landing"  # Delta's application id: its transaction log accepts each landing number once

_ROWS_A_TASK = 250_000
_LISTING_TASKS = 8
_COMPACTED_BYTES = 128 * 1024 * 1024  # largest compacted file; files of at least half this size are left as they are
_CONFLICT = re.compile(r"DELTA_(CONCURRENT|METADATA_CHANGED|PROTOCOL_CHANGED)\w*|(Concurrent|MetadataChanged|ProtocolChanged)\w*Exception")
_ATTEMPTS = 5

# What is raised where there are no hard links or no conditional writes; by exact class, because lost connections are subclasses.
_NOT_SUPPORTED = {
    "java.lang.UnsupportedOperationException",
    "java.nio.file.FileSystemException",
    "java.lang.IllegalArgumentException",
    "org.apache.hadoop.fs.PathIOException",
    "org.apache.hadoop.fs.s3a.AWSUnsupportedFeatureException",
}

_Answer = TypeVar("_Answer")


class UnusableLake(Exception):
    """The raw history is in a place where two drivers could overwrite each other's commits."""


class LostStates(Exception):
    """Layers that a publication names are missing in the state table."""


@dataclass(frozen=True)
class Landed:
    """The contents of table `events`: the mark below which it is complete, and the number of the newest landing (0: none).

    `began` is the mark at which the newest landing of each partition began.
    """

    mark: TideMark
    landing: int
    began: TideMark


class Lake:
    """The tables under a folder or URL. They are created if they do not exist. Raises UnusableLake."""

    def __init__(self, spark: SparkSession, url: str) -> None:
        _require_single_commits(spark, url)
        self._spark, self.url = spark, url
        self._events, self._states = f"{url}/events", f"{url}/states"
        self._sql(f"CREATE TABLE IF NOT EXISTS {_table(self._events)} ({_EVENTS}) USING DELTA {_properties(_EVENT_PROPERTIES)}")

    # raw events -----------------------------------------------------------------------------------------------------------

    def landed(self) -> Landed:
        """What has been landed. The table itself is the only record of it."""
        landings = self._read(self._events).groupBy("topic", "partition", "landing")
        ranges = landings.agg(F.min("offset").alias("first"), F.max("offset").alias("last"))
        found = ranges.groupBy("topic", "partition").agg(F.max("last").alias("last"), F.max(F.struct("landing", "first")).alias("newest"))
        rows = {TopicPartition(row["topic"], row["partition"]): row for row in found.collect()}
        return Landed(
            TideMark({key: row["last"] + 1 for key, row in rows.items()}),
            max((row["newest"]["landing"] for row in rows.values()), default=0),
            TideMark({key: row["newest"]["first"] for key, row in rows.items()}),
        )

    def records_before(self, *marks: TideMark) -> list[Witness]:
        """For each mark, of each partition the event right before it, if there is one."""
        before = [{(key, offset - 1) for key, offset in mark.items()} for mark in marks]
        wanted = set[tuple[TopicPartition, int]]().union(*before)
        if not wanted:
            return [{} for _ in marks]
        is_one = reduce(
            Column.__or__,
            [(F.col("topic") == key.topic) & (F.col("partition") == key.partition) & (F.col("offset") == of) for key, of in wanted],
        )
        rows = self._read(self._events).where(is_one).select("topic", "partition", "offset", "timestamp", transforms.digest()).collect()
        found = {
            (TopicPartition(row["topic"], row["partition"]), row["offset"]): Record(
                kafka_offset(row["offset"]), row["timestamp"], row["digest"]
            )
            for row in rows
        }
        return [{key: found[key, offset] for key, offset in some if (key, offset) in found} for some in before]

    def append(self, events: DataFrame, landing: int) -> None:
        """Appends events as that landing, atomically.

        Appends nothing if another process has already made that landing; landed() then shows it.
        """
        writer = events.withColumn("landing", F.lit(landing).cast("bigint")).write.format("delta").mode("append")
        try:
            writer.option("txnAppId", _LANDING).option("txnVersion", landing).save(self._events)
        except (PySparkException, Py4JError) as error:
            if not _CONFLICT.search(str(error)):
                raise
            log.info("another process has made landing %d at the same time", landing)

    def events(self, start: TideMark, end: TideMark) -> DataFrame:
        """The events at or beyond one mark and below another."""
        return self._read(self._events).where(_between(start, end)).drop("landing")

    def count(self) -> int:
        """The number of events, from Delta's statistics."""
        return self._read(self._events).count()

    def owner(self) -> str | None:
        """The identity of the database that the raw history belongs to; None before its first landing."""
        return self._table_properties().get(_OWNER)

    def claim(self, database: str) -> None:
        """Binds the raw history to the database of this identity."""
        self._sql(f"ALTER TABLE {_table(self._events)} SET {_properties({_OWNER: database, _LAYOUT: str(layout.LAYOUT)})}")

    def require_layout(self) -> None:
        """Raises OtherLayout if a newer version of Tidemark has written the raw history. This one reads all earlier layouts."""
        found = int(self._table_properties().get(_LAYOUT, layout.FIRST))
        if found > layout.LAYOUT:
            layout.require(found, f"the raw history at {self.url}")

    def topics(self) -> dict[str, str]:
        """Kafka's ids of the topics whose events have been landed, by topic name."""
        found = self._table_properties()
        return {name.removeprefix(_TOPIC_ID): value for name, value in found.items() if name.startswith(_TOPIC_ID)}

    def remember_topics(self, identities: Mapping[str, str], *, replace: bool = False) -> None:
        """Stores the ids of topics that have none yet, or of all."""
        if new := {_TOPIC_ID + topic: identity for topic, identity in identities.items() if replace or topic not in self.topics()}:
            self._sql(f"ALTER TABLE {_table(self._events)} SET {_properties(new)}")

    # states ---------------------------------------------------------------------------------------------------------------

    def write_layer(self, states: DataFrame) -> str:
        """Writes a layer and returns its name, which no other layer of any database has.

        Delta's transaction log accepts each name once, so a layer never holds a state twice.
        """
        layer = uuid4().hex
        rows = states.withColumn("layer", F.lit(layer)).write.format("delta").options(**_STATE_PROPERTIES)
        rows = rows.option("txnAppId", f"tidemark-layer-{layer}").option("txnVersion", 1)
        rows.partitionBy("layer").mode("append").save(self._states)
        return layer

    def layers(self) -> set[str]:
        """The existing layers. A layer without states does not exist."""
        if not self._is_table(self._states):
            return set()
        return {row["layer"] for row in self._read(self._states).select("layer").distinct().collect()}

    def require_layers(self, layers: Collection[str]) -> None:
        """Raises LostStates if one of them is missing."""
        if lost := set(layers) - self.layers():
            raise LostStates(
                f"the state table lacks {'layer' if len(lost) == 1 else 'layers'} {', '.join(sorted(lost))}: "
                "run the nightly batch with mode=full, then use its publication"
            )

    def states(self, layers: Collection[str], *names: str) -> DataFrame:
        """The combined states of these layers, as transforms.states() returns them; only the named columns, if any are named."""
        if not layers:
            return self._nothing(*names)
        rows = self._read(self._states).where(F.col("layer").isin(*layers)).drop("layer")
        rows = rows.select(*names) if names else rows
        return transforms.states(rows) if len(layers) > 1 else rows

    def drop_layers(self, layers: Collection[str]) -> None:
        """Drops layers, and deletes files of dropped layers that no reader can still have open."""
        if layers:
            names = ", ".join(f"'{layer}'" for layer in sorted(layers))
            self._sql(f"DELETE FROM {_table(self._states)} WHERE layer IN ({names})")
            self._vacuum(self._states)

    # upkeep ---------------------------------------------------------------------------------------------------------------

    def compact(self) -> int:
        """Compacts small files of raw events into larger ones. Returns by how many files the table has shrunk.

        Landings continue meanwhile. The former files stay until vacuum() finds them a week old.
        """
        name = "spark.databricks.delta.optimize.{}FileSize"
        with self._options({name.format("min"): _COMPACTED_BYTES // 2, name.format("max"): _COMPACTED_BYTES}):
            metrics = self._sql(f"OPTIMIZE {_table(self._events)}").collect()[0]["metrics"]
        return int(metrics["numFilesRemoved"] - metrics["numFilesAdded"])

    def vacuum(self) -> None:
        """Deletes files that the newest version of a table has not needed for a week (Delta's default retention). No reader is that slow.

        Only newest versions are read. They contain every event, and every layer that a publication names.
        """
        for path in self._tables():
            self._vacuum(path)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Files and bytes of the newest version of each table."""
        found = {path: self._sql(f"DESCRIBE DETAIL {_table(path)}").collect()[0] for path in self._tables()}
        return {path.rpartition("/")[2]: (row["numFiles"], row["sizeInBytes"]) for path, row in found.items()}

    # ----------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def tasks_for(self, rows: int) -> Iterator[None]:
        """Sets the number of shuffle partitions so that each has few rows and memory does not grow with the history."""
        with self._options({"spark.sql.shuffle.partitions": max(2, ceil(rows / _ROWS_A_TASK))}):
            yield

    @contextmanager
    def _options(self, options: Mapping[str, int]) -> Iterator[None]:
        """Sets session options while inside."""
        before = {name: self._spark.conf.get(name, None) for name in options}
        for name, value in options.items():
            self._spark.conf.set(name, str(value))
        try:
            yield
        finally:
            for name, former in before.items():
                if former is None:
                    self._spark.conf.unset(name)
                else:
                    self._spark.conf.set(name, former)

    def _vacuum(self, path: str) -> None:
        # By default ten thousand tasks list the files, however few there are.
        with self._options({"spark.sql.sources.parallelPartitionDiscovery.parallelism": _LISTING_TASKS}):
            self._sql(f"VACUUM {_table(path)}")

    def _tables(self) -> list[str]:
        return [self._events, *([self._states] if self._is_table(self._states) else [])]

    def _nothing(self, *names: str) -> DataFrame:
        no_events = self._read(self._events).where(F.lit(False)).drop("landing")
        rows = transforms.observed(no_events, "")
        return rows.select(*names) if names else rows

    def _table_properties(self) -> dict[str, str]:
        return {row["key"]: row["value"] for row in self._sql(f"SHOW TBLPROPERTIES {_table(self._events)}").collect()}

    def _read(self, path: str) -> DataFrame:
        return self._spark.read.format("delta").load(path)

    def _is_table(self, path: str) -> bool:
        try:
            self._read(path)
        except PySparkException as error:
            if "DELTA_PATH_DOES_NOT_EXIST" in str(error) or "DELTA_TABLE_NOT_FOUND" in str(error) or "PATH_NOT_FOUND" in str(error):
                return False
            raise
        return True

    def _sql(self, statement: str) -> DataFrame:
        return _retry_on_conflict(lambda: self._spark.sql(statement))


def _require_single_commits(spark: SparkSession, url: str) -> None:
    """Raises UnusableLake unless a file that exists is not written again. Correctness of all concurrent writers depends on it.

    Delta's own log stores are trusted for HDFS, Azure and Google Cloud Storage, where they create a commit in one step.
    """
    jvm: Any = spark._jvm
    options = spark._jsc.hadoopConfiguration()
    probe = jvm.org.apache.hadoop.fs.Path(f"{url}/.probe-{uuid4()}")
    files = probe.getFileSystem(options)
    if files.getScheme() not in log_stores.BY_SCHEME:
        return
    if log_stores.jar_name() not in jvm.java.lang.System.getProperty("java.class.path"):
        raise UnusableLake("the log stores for the raw history are not compiled for this version: run `python -m tidemark.local.jars`")
    store = reduce(getattr, log_stores.BY_SCHEME[files.getScheme()].split("."), jvm)(options)
    files.mkdirs(probe.getParent())
    reason = "it wrote the same file twice"
    try:
        for _ in range(2):
            store.write(probe, jvm.java.util.Collections.emptyIterator(), False, options)
    except Py4JJavaError as error:
        name = error.java_exception.getClass().getName()
        if name == "java.nio.file.FileAlreadyExistsException":
            return
        if name not in _NOT_SUPPORTED:
            raise
        reason = error.java_exception.toString()
    finally:
        files.delete(probe, False)
    raise UnusableLake(
        f"two writers could overwrite each other's commits in {url}, because it does not refuse to create a file that exists ({reason}): "
        "set TIDEMARK_LAKE to a folder on a file system with hard links, to s3a:// on a store with conditional writes, or to HDFS, Azure "
        "or Google Cloud Storage"
    )


def _retry_on_conflict(act: Callable[[], _Answer]) -> _Answer:
    """Retries a change that Delta refuses because of a concurrent one: planned again, it succeeds."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return act()
        except (PySparkException, Py4JError) as error:
            if not _CONFLICT.search(str(error)):
                raise
    return act()


def _between(start: TideMark, end: TideMark) -> Column:
    """Is an event at or beyond one mark and below the other?"""
    offset = F.col("offset")
    parts = [
        (F.col("topic") == topic) & (F.col("partition") == partition) & (offset >= start[key]) & (offset < until)
        for key, until in end.items()
        if start[key] < until
        for topic, partition in [key]
    ]
    return reduce(Column.__or__, parts, F.lit(False))


def _table(path: str) -> str:
    return f"delta.`{path.replace('`', '``')}`"


def _properties(properties: Mapping[str, str]) -> str:
    return f"TBLPROPERTIES ({', '.join(f'{json.dumps(name)} = {json.dumps(value)}' for name, value in properties.items())})"
