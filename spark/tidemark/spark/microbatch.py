"""One micro-batch, step by step: one pass of Spark over the events, then one transaction.

Products are written ahead under this micro-batch's tag, which has no effect until the ledger commits it together with the differences of
the cells and the offsets. Nothing else records progress, so the micro-batch may be interrupted anywhere.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any, cast

from pymongo.database import Database
from pyspark.sql import Column, DataFrame, Observation, Row
from pyspark.sql import functions as F

from tidemark.catalog.cube import MEASURES, Cell
from tidemark.catalog.epochs import kafka_offset
from tidemark.catalog.marks import TideMark
from tidemark.catalog.versions import CategoryVersion
from tidemark.catalog.words import counted
from tidemark.serving import control, ledger, offsets
from tidemark.serving.bindings import Record, Witness, newest
from tidemark.serving.database import Document, latest
from tidemark.serving.documents import LogEndDocument, ProgressDocument
from tidemark.serving.ledger import Category, Fenced, Ledger, MicroBatch, Tag
from tidemark.serving.notes import Work
from tidemark.serving.operations import MEASURED_RECENTLY
from tidemark.settings import Settings
from tidemark.spark import metrics, transforms
from tidemark.spark.documents import category_name
from tidemark.spark.log import Log, describe_topics
from tidemark.spark.new_cells import require_accepted, require_small
from tidemark.spark.products import COLUMNS, DIMENSIONS, RESULT, ProductWriter
from tidemark.spark.renames import rename
from tidemark.spark.tasks import fencing

log = logging.getLogger(__name__)


class NewPartition(Exception):
    """Events come from a partition that did not exist when the stream started: it restarts with all partitions."""


@dataclass
class MicroBatches:
    """The stream's state between micro-batches: its offsets, the records read last, the names of categories, and the categories with
    renames that no micro-batch has committed. `found` is the log as it was when the stream started.

    Only this generation can commit, so this state is authoritative until the stream is fenced off.
    """

    database: Database[Document]
    of: Settings
    ledger: Ledger
    found: Log
    offsets: TideMark = field(init=False)
    witness: Witness = field(init=False)
    categories: dict[int, Category] = field(init=False)
    renaming: frozenset[int] = field(init=False)
    accepted: TideMark = field(init=False)
    work: Work = field(default_factory=Work)

    def __post_init__(self) -> None:
        self.offsets, self.renaming = self.found.within(self.ledger.offsets), self.ledger.renaming
        self.witness = self.ledger.witness
        self.accepted = control.read(self.database).accepted
        self.categories = {
            one["_id"]: Category(one["category_name"], CategoryVersion(**one["_tide"]["version"]))
            for one in latest(self.database.category).find()
        }

    def run(self, observed: DataFrame, number: int) -> None:
        """Applies micro-batch `number` (consecutive from 0). Rows are those of transforms.observed.

        Raises Fenced, NewPartition, NewLeader, TopicsRecreated, TooLarge, Held, or errors of Spark and MongoDB.
        """
        started = time.monotonic()
        # Spark continues at its offsets even in a recreated topic, or in one that has lost events. The check before keeps such events from
        # being written; the check after reading confirms that what was read came from the log that was compared at the start.
        self._require_same_log()
        rows, seen = self._write_products(observed, Tag(self.ledger.generation, number))
        read = self._read(seen)
        reached = TideMark({key: self.found.binding.logical(record.offset) + 1 for key, record in read.items()}).joined(self.offsets)
        self._require_same_log()
        categories = self._newer_categories(rows)
        batch = MicroBatch(
            number=number,
            offsets=reached,
            witness=newest(self.witness, read),
            differences=_differences(rows),
            categories=categories,
            newest_event=_moment(seen["newest_event"]),
            newest_observation=_moment(seen["newest_observation"]),
        )
        require_accepted(self.database, self.ledger.generation, batch, observed, self.accepted, self.of)
        require_small(batch)
        self._rename_products(categories)
        progress = self._progress(seen, reached, number, time.monotonic() - started)
        ledger.commit(self.database, self.ledger.generation, replace(batch, progress=progress))
        self.offsets, self.witness = reached, batch.witness
        self.categories |= categories
        self.renaming = frozenset()
        self.ledger = replace(self.ledger, offsets=reached, committed={**self.ledger.committed, self.ledger.generation: number})
        seconds = time.monotonic() - started
        metrics.committed(seen["events"], seen["rejected"], seconds)
        self.work = self.work.plus(Work(1, seen["events"], seen["rejected"], round(seconds * 1000)))
        log.info(
            "micro-batch %d of generation %d: %s (%d rejected) in %.2f s, %.0f/s, %s behind",
            number, self.ledger.generation, counted(seen["events"], "event"), seen["rejected"], seconds, seen["events"] / seconds,
            "unknown" if progress["behind"] is None else progress["behind"],
        )  # fmt: skip

    def _require_same_log(self) -> None:
        now = describe_topics(self.of)
        self.ledger.binding.require_topics(now.identities)
        self.found.topics.require_leaders(now)

    def _write_products(self, observed: DataFrame, tag: Tag) -> tuple[list[Row], dict[str, Any]]:
        """Writes products and quarantine records. Returns the rows of differences and categories, and the observed metrics."""
        writer = ProductWriter(self.of.mongodb, self.database.name, tag, self.ledger, self.categories)
        observation = Observation()
        seen = observed.observe(observation, *self._metrics)
        states = transforms.with_contributions(transforms.newest(seen)).select(*COLUMNS)
        summed = states.mapInArrow(writer, RESULT).groupBy(*DIMENSIONS).agg(*_sums())
        with fencing():
            return summed.collect(), observation.get

    @cached_property
    def _metrics(self) -> list[Column]:
        """Metrics of the pass. Maxima are correct even if Spark runs a task twice; counts are for display only."""
        version = F.col("version")
        known = sorted(self.found.ends)
        record = F.struct(version["offset"].alias("offset"), F.col("timestamp"), F.col("digest"))
        newest_records = [
            F.max(F.when((F.col("topic") == topic) & (version["partition"] == partition), record)).alias(f"newest_{index}")
            for index, (topic, partition) in enumerate(known)
        ]
        is_known = F.lit(False)
        for topic in {key.topic for key in known}:
            is_known |= (F.col("topic") == topic) & version["partition"].isin([key.partition for key in known if key.topic == topic])
        return [
            *newest_records,
            F.max(F.when(~is_known, F.concat_ws("/", F.col("topic"), version["partition"]))).alias("unknown"),
            F.count(F.lit(1)).alias("events"),
            F.count("reason").alias("rejected"),
            F.max("timestamp").alias("newest_event"),
            F.max(F.when(F.col("kind") == transforms.PRODUCT, version["observed_at"])).alias("newest_observation"),
        ]

    def _read(self, seen: Mapping[str, Any]) -> Witness:
        """Of each partition the newest record of the micro-batch."""
        if seen["unknown"] is not None:
            raise NewPartition(f"partition {seen['unknown']} is new: restarting with all partitions")
        found = {key: seen[f"newest_{index}"] for index, key in enumerate(sorted(self.found.ends))}
        return {key: Record(kafka_offset(row["offset"]), row["timestamp"], row["digest"]) for key, row in found.items() if row is not None}

    def _newer_categories(self, rows: list[Row]) -> dict[int, Category]:
        named = {
            row["category_id"]: Category(row["category_name"], CategoryVersion(*(row[name] for name in CategoryVersion._fields)))
            for row in rows
            if row["kind"] == transforms.CATEGORY
        }
        return {
            number: one for number, one in named.items() if number not in self.categories or self.categories[number].version < one.version
        }

    def _rename_products(self, newer: Mapping[int, Category]) -> None:
        """Renames the products of categories that get another name, and of those that a former stream was renaming when it ended.

        It follows all writes of the micro-batch's tasks, which bear the former names.
        """
        self.renaming |= {
            number for number, category in newer.items() if category.name != category_name(number, self.categories.get(number))
        }
        names = {**self.categories, **newer}
        rename(self.database, self.ledger.generation, {number: names.get(number) for number in self.renaming})

    def _progress(self, seen: Mapping[str, Any], reached: TideMark, number: int, seconds: float) -> ProgressDocument:
        end = self.database.state.find_one({"_id": "log_end", "$expr": MEASURED_RECENTLY})
        return {
            "batch": number,
            "events": seen["events"],
            "rejected": seen["rejected"],
            "seconds": round(seconds, 3),
            "events_per_second": round(seen["events"] / max(seconds, 1e-3)),
            "behind": reached.behind(offsets.from_documents(cast(LogEndDocument, end)["offsets"])) if end else None,
        }


@cache
def _sums() -> tuple[Column, ...]:
    return tuple(F.sum(measure).alias(measure) for measure in MEASURES)


def _differences(rows: list[Row]) -> dict[Cell, tuple[int, ...]]:
    return {
        Cell(row["category_id"], row["price_level"], row["is_best_seller"]): tuple(row[measure] for measure in MEASURES)
        for row in rows
        if row["kind"] != transforms.CATEGORY and any(row[measure] for measure in MEASURES)
    }


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)


__all__ = ["Fenced", "MicroBatches", "NewPartition"]
