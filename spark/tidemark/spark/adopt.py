"""Adoption: the database takes over a log and a raw history that are not those it knows, and the reports are rebuilt from what they hold.

It is the way back when MongoDB was lost or restored, when Kafka was lost or has lost events, and when the raw history was lost. Where log
and raw history part, a new epoch of offsets begins (tidemark.catalog.epochs): the raw history keeps what came before, the stream follows
what is in the log from there on.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

from pymongo.database import Database
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemark.catalog.epochs import epoch_of, first_of, kafka_offset
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.rules import RULES, Rules
from tidemark.serving import ingestions, ledger, publications
from tidemark.serving.bindings import Adoption, Binding, Witness
from tidemark.serving.database import Document
from tidemark.serving.documents import AdoptionFields
from tidemark.serving.ledger import Ledger
from tidemark.settings import Settings
from tidemark.settings.sections import KafkaSettings
from tidemark.spark.lake import Lake
from tidemark.spark.land import land, read_log, start_of_landing
from tidemark.spark.log import Log, OtherRecords, describe_log, records, require_records
from tidemark.spark.rebuild import rebuild
from tidemark.spark.recompute import Mode, recompute
from tidemark.spark.transforms import events

log = logging.getLogger(__name__)


class OtherLoss(Exception):
    """What would be lost is not what was shown."""


@dataclass(frozen=True)
class Plan:
    """What an adoption does. `continues`: log and raw history fit together, so no epoch begins and no event is lost.

    `parted` are the partitions in which the log lacks events that the raw history holds, or has others in their place. `mark` is where the
    stream continues.
    """

    own: Ledger
    owner: str | None
    found: Log
    landed: TideMark
    continues: bool
    parted: tuple[TopicPartition, ...]
    binding: Binding
    mark: TideMark

    @property
    def begins(self) -> dict[TopicPartition, int]:
        """For each partition, Kafka's offset from which the log is read."""
        return {key: kafka_offset(self.mark[key]) for key in self.found.ends}

    @property
    def is_other_log(self) -> bool:
        return any(self.own.binding.topics.get(topic, identity) != identity for topic, identity in self.found.identities.items())

    def describe(self, database: Database[Document]) -> AdoptionFields:
        """What would be lost."""
        served = [(key, self.landed[key], end) for key, end in self.own.offsets.items() if end > self.landed[key] and not self.continues]
        return {
            "continues": self.continues,
            "other_log": self.is_other_log,
            "parted": [f"{topic}/{partition}" for topic, partition in self.parted],
            "begins": [{"topic": key.topic, "partition": key.partition, "offset": offset} for key, offset in sorted(self.begins.items())],
            "served_only": [
                {
                    "topic": key.topic,
                    "partition": key.partition,
                    "first": kafka_offset(first) if epoch_of(first) == epoch_of(end) else 0,
                    "last": kafka_offset(end) - 1,
                    "count": TideMark({key: first}).behind(TideMark({key: end})),
                }
                for key, first, end in served
            ],
            "ingestions": [
                {"ingestion": one.ingestion, "name": one.name, "lost": one.lost, "chunks": one.chunks, "rows": one.rows}
                for one in ([] if self.continues else ingestions.uncertain(database, self.landed, first_of(self.binding.epoch)))
            ],
            "events": self.binding.events,
            "shown": self.fingerprint,
        }

    @property
    def fingerprint(self) -> str:
        """Two plans with the same fingerprint lose the same."""
        lost = (self.continues, () if self.continues else (self.binding.epoch, dict(self.binding.topics), self.binding.origin, self.landed))
        return hashlib.sha256(repr(lost).encode()).hexdigest()[:12]


def plan(spark: SparkSession, lake: Lake, database: Database[Document], of: Settings) -> Plan:
    """Compares log, raw history and ledger, and changes nothing. Reads as much of the log as the raw history holds of it.

    Raises UnsafeTopic, or what Spark, Kafka and MongoDB raise.
    """
    own, owner, landed = ledger.read(database), lake.owner(), lake.landed().mark
    found = describe_log(of, own.binding)
    start = start_of_landing(own.binding, found, landed)
    if _is_same_log(lake, own, owner, found, landed, of):
        agreed, parted = _agreed(spark, lake, of, found, start)
        if all(start[key] == offset for key, offset in agreed.items()):
            return Plan(own, owner, found, landed, True, (), own.binding, start)
    else:
        agreed, parted = dict(found.starts), ()
    epoch = max(own.binding.epoch, _epoch(landed), ingestions.epoch(database)) + 1
    origin = TideMark({key: first_of(epoch) + kafka_offset(offset) for key, offset in agreed.items()})
    binding = Binding(epoch, dict(found.identities), origin, landed, lake.count())
    return Plan(own, owner, found, landed, False, parted, binding, landed.joined(origin))


def adopt(
    spark: SparkSession, lake: Lake, database: Database[Document], of: Settings, rules: Rules = RULES, as_shown: str | None = None
) -> int:
    """Carries out the plan: rebuilds a publication of all events that the raw history holds; returns its number.

    The stream then continues from there. Chunks of files whose events may be lost are opened (ingestions.lost_chunks). Can be run again at
    any time. Raises OtherLoss if the plan's fingerprint is not the one `as_shown`, and what plan(), land() and rebuild() raise, before
    anything served is changed.
    """
    found = plan(spark, lake, database, of)
    if as_shown not in (None, found.fingerprint):
        raise OtherLoss(
            f"what would be lost has changed since it was shown ({found.fingerprint} instead of {as_shown}). Nothing has been changed. "
            "Look at it again (adopt --dry-run), then adopt"
        )
    if found.owner != found.own.identity:
        log.warning("the raw history at %s passes from database %s to this one, %s", lake.url, found.owner, found.own.identity)
        lake.claim(found.own.identity)
    if found.continues:
        mark = land(spark, lake, found.own, of)
        certain = mark
    else:
        log.warning(
            "epoch %d of the log begins at %s; events before it are those of the raw history", found.binding.epoch, found.binding.origin
        )
        lake.remember_topics(found.found.identities, replace=True)
        mark, certain = found.mark, found.landed
    draft = publications.draft_at(database, mark, rules.fingerprint(), Adoption(found.binding, _witness(of, found, mark), certain))
    recompute(lake, database, draft.number, of, Mode.FULL, rules)
    rebuild(spark, lake, database, draft.number, of, rules)
    return draft.number


def _witness(of: KafkaSettings, found: Plan, mark: TideMark) -> Witness:
    """The records of the log right before the mark."""
    before = {key: kafka_offset(mark[key]) - 1 for key in found.found.ends}
    return records(of, {key: offset for key, offset in before.items() if offset >= 0})


def _is_same_log(lake: Lake, own: Ledger, owner: str | None, found: Log, landed: TideMark, of: KafkaSettings) -> bool:
    """Do ledger and raw history refer to this log, and is everything before the epoch's origin still where it was?"""
    known = (own.binding.topics, lake.topics())
    if any(topics.get(topic, identity) != identity for topics in known for topic, identity in found.identities.items()):
        return False
    if _epoch(landed) > own.binding.epoch:
        return False
    return not own.binding.origin or (
        owner == own.identity and landed.reaches(own.binding.landed) and _is_intact_before_origin(own, found, of)
    )


def _is_intact_before_origin(own: Ledger, found: Log, of: KafkaSettings) -> bool:
    """The raw history cannot be compared with what the log holds before the origin, but what was read last of it can."""
    before = {key: record for key, record in own.witness.items() if record.offset < kafka_offset(own.binding.origin[key])}
    try:
        require_records(of, found, before)
    except OtherRecords:
        return False
    return True


def _agreed(
    spark: SparkSession, lake: Lake, of: KafkaSettings, found: Log, landed: TideMark
) -> tuple[dict[TopicPartition, int], tuple[TopicPartition, ...]]:
    """For each partition the first offset whose event the raw history lacks, or has otherwise than the log; and where that is so."""
    origin = found.within(found.binding.origin)
    begin = {key: max(start, origin[key]) for key, start in found.starts.items()}
    end = {key: min(found.ends[key], landed[key]) for key in begin}
    both = {key: (begin[key], end[key]) for key in begin if begin[key] < end[key]}
    differs: dict[TopicPartition, int] = {}
    if both:
        there = _fingerprints(events(read_log(spark, of, both), found.binding.epoch), "there")
        held = _fingerprints(lake.events(TideMark(begin), TideMark({key: until for key, (_, until) in both.items()})), "held")
        other = there.join(held, ["topic", "partition", "offset"], "full_outer").where(~F.col("there").eqNullSafe(F.col("held")))
        rows = other.groupBy("topic", "partition").agg(F.min("offset").alias("first")).collect()
        differs = {TopicPartition(row["topic"], row["partition"]): row["first"] for row in rows}
    agreed = {key: differs.get(key, max(begin[key], end[key])) for key in begin}
    return agreed, tuple(sorted(key for key in agreed if agreed[key] < landed[key]))


def _fingerprints(log: DataFrame, name: str) -> DataFrame:
    fingerprint: Column = F.xxhash64("timestamp", "key", "value")
    return log.select("topic", "partition", "offset", fingerprint.alias(name))


def _epoch(landed: TideMark) -> int:
    return max((epoch_of(offset - 1) for offset in landed.values()), default=0)
