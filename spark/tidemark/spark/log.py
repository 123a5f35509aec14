"""The Kafka log for Spark's entry points: the topics, the available offsets, and whether they are safe to read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, wraps
from operator import itemgetter
from typing import Any, ParamSpec, TypeVar
from zlib import crc32

from kafka import KafkaConsumer
from kafka import TopicPartition as KafkaTopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError, RetriableError

from tidemark.catalog.epochs import epoch_of, kafka_offset
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.topics import problems
from tidemark.serving.bindings import ADOPT, Binding, Record, Witness
from tidemark.settings.kafka_clients import kafka_python_options
from tidemark.settings.kafka_refusal import explaining_timeouts
from tidemark.settings.sections import KafkaSettings

FAIL_OVER_SECONDS = 15.0  # more than Kafka needs to notice that a broker is gone (broker.session.timeout.ms, 9 s)
FIRST = Binding()  # of a database that has read nothing
_READ_SECONDS = 30.0
_TRY_AGAIN_SECONDS = 0.2

Options = tuple[tuple[str, Any], ...]  # of kafka-python, hashable

_Answer = TypeVar("_Answer")
_Arguments = ParamSpec("_Arguments")


class UnsafeTopic(Exception):
    """A topic is missing, or its configuration could lose or misdate events."""


class MissingOffsets(Exception):
    """Events that are still needed are no longer in the log, or the log ends before an offset already read."""


class OtherRecords(Exception):
    """The log has another record at an offset than the one that was read there: it has lost events, and others have taken their place."""


class NewLeader(Exception):
    """A partition has another leader than before, so events may have been lost: whoever reads must compare what it has read."""


@dataclass(frozen=True)
class Topics:
    """The ids of the topics by name, and the epoch of each partition's leader, which every election raises."""

    identities: Mapping[str, str]
    leaders: Mapping[TopicPartition, int]

    def require_leaders(self, now: Topics) -> None:
        """Raises NewLeader if a partition has had an election since."""
        if changed := sorted(key for key, leader in self.leaders.items() if now.leaders.get(key) != leader):
            raise NewLeader(f"a leader was elected for {', '.join(f'{topic}/{partition}' for topic, partition in changed)}")


@dataclass(frozen=True)
class Log:
    """The topics at one moment, and for each partition the first available offset and the end (exclusive), in the binding's epoch."""

    topics: Topics
    starts: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    binding: Binding = FIRST

    @property
    def identities(self) -> Mapping[str, str]:
        return self.topics.identities

    def within(self, mark: TideMark) -> TideMark:
        """The mark from which to read: one in the current epoch, for partitions that were added in it."""
        return self.binding.within(mark, self.ends)

    def require(self, mark: TideMark) -> None:
        """Raises MissingOffsets, with topic, partition and offsets, if the log cannot be read from the mark on."""
        mark = self.within(mark)
        missing = [
            f"{topic}/{partition}: {_removed(mark[key], start - 1, self.binding.epoch)}"
            for key, start in self.starts.items()
            if start > mark[key]
            for topic, partition in [key]
        ]
        missing += [
            f"{topic}/{partition}: read up to offset {kafka_offset(offset)}, but the log ends at "
            f"{kafka_offset(self.ends.get(TopicPartition(topic, partition), 0))}"
            for (topic, partition), offset in mark.items()
            if offset > self.ends.get(TopicPartition(topic, partition), 0) and epoch_of(offset) >= self.binding.epoch
        ]
        if missing:
            raise MissingOffsets(
                "the next offsets to read are not in the log, so continuing would lose events: " + "; ".join(missing)
                + f". Nothing has been changed. Restore the topic. If the events are lost, {ADOPT}"
            )  # fmt: skip

    def starting_offsets(self, mark: TideMark) -> str:
        """Spark's startingOffsets for a mark; names every existing partition."""
        by_topic: dict[str, dict[str, int]] = {}
        start = self.within(mark)
        for key in self.ends:
            by_topic.setdefault(key.topic, {})[str(key.partition)] = kafka_offset(start[key])
        return json.dumps(by_topic)


def _removed(first: int, last: int, epoch: int) -> str:
    if epoch_of(first) < epoch:
        return "only the raw history holds the events of the former log"
    first, last = kafka_offset(first), kafka_offset(last)
    return (f"offset {first} has been" if first == last else f"offsets {first} to {last} have been") + " removed by retention"


def _client(options: Options) -> KafkaAdminClient:
    return KafkaAdminClient(**dict(options), client_id="tidemark-spark")


def _options(of: KafkaSettings) -> Options:
    return tuple(kafka_python_options(of).items())


@contextmanager
def _admin(of: KafkaSettings) -> Iterator[KafkaAdminClient]:
    """Raises KafkaError if Kafka does not answer in time, or refuses the login or the certificate."""
    with explaining_timeouts(of):
        client = _client(_options(of))
    try:
        yield client
    finally:
        client.close()


# Every micro-batch uses it twice: connecting takes several times as long as the request.
_lasting_client = lru_cache(maxsize=1)(_client)


def _through_a_failover(ask: Callable[_Arguments, _Answer]) -> Callable[_Arguments, _Answer]:
    """Asks again while a broker of several is down: until the others have noticed, a client may be sent to it."""

    @wraps(ask)
    def asking(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Answer:
        until = time.monotonic() + FAIL_OVER_SECONDS
        while True:
            try:
                return ask(*arguments, **named)
            except RetriableError:
                if time.monotonic() > until:
                    raise
                time.sleep(_TRY_AGAIN_SECONDS)

    return asking


@_through_a_failover
def describe_topics(of: KafkaSettings) -> Topics:
    """The current topics. Raises UnsafeTopic if one is missing."""
    client = _lasting_client(_options(of))
    try:
        described = _described(client, of)
    except KafkaError:  # possibly only the connection: try a new one
        _lasting_client.cache_clear()
        client.close()
        described = _described(_lasting_client(_options(of)), of)
    return _topics(described)


@_through_a_failover
def describe_log(of: KafkaSettings, binding: Binding = FIRST) -> Log:
    """The current log, as that of this binding. Raises UnsafeTopic if a topic is missing or its configuration does not keep events safe."""
    with _admin(of) as client:
        described = _described(client, of)
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in described]
        configurations = client.describe_configs(resources, config_filter="all")["topic"]
        # kafka-python drops the error of a topic whose configuration Kafka does not show.
        if hidden := [topic for topic, configuration in configurations.items() if not configuration]:
            raise UnsafeTopic(f"the configuration of {' and '.join(hidden)} is not shown: allow this account DESCRIBE_CONFIGS")
        wrong = [
            line
            for topic, configuration in configurations.items()
            for line in problems(
                topic, {name: found["value"] for name, found in configuration.items()}, _replicas(described[topic]), of.other_producers
            )
        ]
        if wrong:
            raise UnsafeTopic("; ".join(wrong))
        topics = _topics(described)
        partitions = [KafkaTopicPartition(*key) for key in topics.leaders]
        starts = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
        ends = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    return Log(
        topics,
        starts={TopicPartition(*key): binding.logical(found.offset) for key, found in starts.items()},
        ends={TopicPartition(*key): binding.logical(found.offset) for key, found in ends.items()},
        binding=binding,
    )


def require_records(of: KafkaSettings, found: Log, *witnesses: Witness) -> None:
    """Raises OtherRecords unless the log still has these records. Where retention has removed one, nobody can say.

    Raises KafkaError or TimeoutError if Kafka does not answer.
    """
    changed: list[tuple[TopicPartition, Record, Record | None]] = []
    for witness in witnesses:
        wanted = {key: known for key, known in witness.items() if key in found.starts}
        there, starts = _look_up(of, {key: known.offset for key, known in wanted.items()})
        changed += [
            (key, known, there.get(key)) for key, known in wanted.items() if known.offset >= starts[key] and there.get(key) != known
        ]
    if changed:
        raise OtherRecords(
            "the log has lost events that were read: " + "; ".join(
                f"{topic}/{partition}: at offset {known.offset} there was a record of {_utc(known.timestamp)}, now there is "
                + (f"one of {_utc(now.timestamp)}" if now else "none")
                for (topic, partition), known, now in sorted(changed, key=itemgetter(0, 1))
            ) + f". Nothing has been changed. Restore the topic. If the events are lost, {ADOPT}"
        )  # fmt: skip


def records(of: KafkaSettings, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, Record]:
    """The records at these offsets of Kafka, those that there are. Raises KafkaError or TimeoutError."""
    return _look_up(of, wanted)[0]


@_through_a_failover
def _look_up(
    of: KafkaSettings, wanted: Mapping[TopicPartition, int]
) -> tuple[dict[TopicPartition, Record], dict[KafkaTopicPartition, int]]:
    """The records at these offsets, and then each partition's first available offset, so that what retention removes meanwhile is seen."""
    if not wanted:
        return {}, {}
    partitions = {KafkaTopicPartition(*key): offset for key, offset in wanted.items()}
    found: dict[TopicPartition, Record] = {}
    # A consumer for each call: kafka-python may wait for ever for partitions that are assigned again.
    consumer = KafkaConsumer(**kafka_python_options(of), client_id="tidemark-spark", enable_auto_commit=False)
    try:
        consumer.assign(list(partitions))
        ends = consumer.end_offsets(list(partitions))
        left = {partition for partition, offset in partitions.items() if offset < ends[partition]}
        consumer.assign(list(left))
        for partition in left:
            consumer.seek(partition, partitions[partition])
        until = time.monotonic() + _READ_SECONDS
        while left:
            for partition, some in consumer.poll(timeout_ms=500, max_records=len(left)).items():
                if partition in left:
                    left.remove(partition)
                    consumer.pause(partition)
                    if some[0].offset == partitions[partition]:
                        found[TopicPartition(*partition)] = Record(some[0].offset, some[0].timestamp, crc32(some[0].value or b""))
            for partition in [one for one in left if consumer.position(one) > partitions[one]]:
                left.remove(partition)  # only offsets without events
            if left and time.monotonic() > until:
                raise TimeoutError(f"Kafka at {of.kafka} did not return a record within {_READ_SECONDS} s")
        return found, consumer.beginning_offsets(list(partitions))
    finally:
        consumer.close()


def _utc(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S.%f} UTC"


def _replicas(topic: Mapping[str, Any]) -> int:
    """The replicas of the partition that has the fewest."""
    return min(len(partition["replica_nodes"]) for partition in topic["partitions"])


def _topics(described: Mapping[str, Any]) -> Topics:
    return Topics(
        {topic: str(found["topic_id"]) for topic, found in described.items()},
        {
            TopicPartition(topic, one["partition_index"]): one["leader_epoch"]
            for topic, found in described.items()
            for one in found["partitions"]
        },
    )


def _described(client: KafkaAdminClient, of: KafkaSettings) -> dict[str, Any]:
    found = {one["name"]: one for one in client.describe_topics(list(of.topics)) if one.get("partitions")}
    if missing := [topic for topic in of.topics if topic not in found]:
        raise UnsafeTopic(f"Kafka at {of.kafka} has no topic {' or '.join(missing)}: run `python -m tidemark.ingest.topics`")
    return found
