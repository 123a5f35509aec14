"""The speed layer's entry point: `python -m tidemark.spark.speed` follows the log until it is told to stop (SIGTERM) or is fenced.

Each start takes a new generation and a new, disposable Spark checkpoint, and continues from the ledger's offsets. When it is paused or a
restart is requested (tidemark.serving.control), it exits with status 0, and its supervisor starts it again.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import sys
import threading
from pathlib import Path

from pymongo.database import Database
from pymongo.errors import PyMongoError
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.catalog.rules import Rules
from tidemark.serving import control, ledger, notes, withdrawals
from tidemark.serving.bindings import Binding, TopicsRecreated
from tidemark.serving.control import Control, Held
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.layout import OtherLayout
from tidemark.serving.notes import Work
from tidemark.settings import Settings, settings
from tidemark.settings.airflow_names import AirflowNames, Dag
from tidemark.settings.kafka_clients import spark_options
from tidemark.settings.sections import KafkaSettings
from tidemark.spark import metrics, new_cells, transforms
from tidemark.spark.log import Log, MissingOffsets, NewLeader, OtherRecords, UnsafeTopic, describe_log, require_records
from tidemark.spark.microbatch import MicroBatches, NewPartition
from tidemark.spark.new_cells import TooLarge
from tidemark.spark.session import session

HEARTBEAT_SECONDS = 1

log = logging.getLogger("tidemark.speed")


class Stream:
    """One generation of the stream, from the ledger's offsets until it is told to stop."""

    def __init__(
        self,
        spark: SparkSession,
        database: Database[Document],
        of: Settings,
        found: Log,
        own: ledger.Ledger,
        rules: Rules,
        wanted: Control,
        stop_requested: threading.Event,
        events_per_batch: int,
    ) -> None:
        self._spark = spark
        self._database = database
        self._of = of
        self._log = found
        self._own = own
        self._batches = MicroBatches(database, of, own, found)
        self._rules = rules
        self._wanted = wanted
        self._last: TideMark | None = None  # the end of the log when a pause with `drain` was seen: what must still be served
        self._stop_requested = stop_requested
        self._events_per_batch = events_per_batch
        self._at_work = threading.Lock()  # held while a micro-batch runs, so that the stream stops between two
        self._ended = False
        self._failure: BaseException | None = None
        self._noted = Work()

    def run(self) -> None:
        """Runs until told to stop, paused, or a restart is requested.

        Raises whatever else ended it: Fenced, NewPartition, NewLeader, or errors of Spark, Kafka and MongoDB.
        """
        checkpoint = _fresh_folder(self._of.home / "speed", f"generation-{self._own.generation}")
        query = self._query(self._own.offsets, checkpoint)
        log.info("generation %d follows %s from %s", self._own.generation, ", ".join(self._of.topics), self._own.offsets)
        try:
            while not self._stop_requested.is_set() and not query.awaitTermination(HEARTBEAT_SECONDS):
                wanted = self._beat()
                self._note_work()
                if self._is_over(wanted, query):
                    break
        except StreamingQueryException as error:
            failure = self._failure or error
            if not isinstance(failure, ledger.Fenced | NewPartition | NewLeader | Held | TooLarge):
                _ready(self._batches.ledger, self._of)  # a problem of the log explains more than Spark's error
            raise failure from None
        finally:
            with self._at_work:
                self._ended = True
            query.stop()  # without the lock: it waits for a micro-batch, which may be waiting for the lock
            shutil.rmtree(checkpoint, ignore_errors=True)
            self._note_work()
        if self._failure is not None:
            raise self._failure
        log.info("generation %d has stopped at %s", self._own.generation, self._batches.offsets)

    def _query(self, start: TideMark, checkpoint: Path) -> StreamingQuery:
        records = (
            self._spark.readStream.format("kafka")
            .options(**spark_options(self._of))
            .option("subscribe", ",".join(self._of.topics))
            .option("startingOffsets", self._log.starting_offsets(start))
            .option("maxOffsetsPerTrigger", self._events_per_batch)
            .option("failOnDataLoss", "true")
            .option("includeHeaders", "true")
            # Spark only fetches existing offsets. A long poll left over from the same consumer would delay the fetch.
            .option("kafka.fetch.max.wait.ms", "10")
            # When a broker has failed, Spark's request for the log's end may hang until it times out, by default after a minute. Many short
            # attempts take no longer than the fail-over, and outlast a broker that stalls.
            .option("kafka.request.timeout.ms", "5000")
            .option("kafka.default.api.timeout.ms", "10000")
            .option("fetchOffset.numRetries", "12")
            .load()
        )
        # Validated here, Spark analyses the many columns of validation once, not in every micro-batch.
        observed = transforms.observed(
            transforms.events(records, self._log.binding.epoch), self._of.category_topic, self._rules, digests=True
        )
        return (
            observed.writeStream.foreachBatch(self._micro_batch)
            .option("checkpointLocation", f"file://{checkpoint}")  # not escaped as a URI: Hadoop takes escapes literally
            .trigger(processingTime=f"{self._of.trigger_seconds} seconds")
            .start()
        )

    def _micro_batch(self, observed: DataFrame, number: int) -> None:
        with self._at_work:
            if self._ended or self._stop_requested.is_set():
                return
            try:
                self._batches.run(observed, number)
            except BaseException as failure:
                self._failure = failure
                raise

    def _beat(self) -> Control | None:
        """Records a heartbeat and reads the desired state; None if MongoDB does not answer."""
        try:
            ledger.heartbeat(self._database, self._own.generation)
            return control.read(self._database)
        except PyMongoError as error:
            # The age of the heartbeat shows it; a micro-batch that needs MongoDB fails by itself.
            log.warning("heartbeat failed: %s", error)
            return None

    def _note_work(self) -> None:
        """Records the work done, for display only."""
        done = self._batches.work
        if done == self._noted:
            return
        try:
            notes.add_work(self._database, done.since(self._noted))
        except PyMongoError as error:
            log.warning("the work of this minute could not be recorded: %s", error)
        else:
            self._noted = done

    def _is_over(self, wanted: Control | None, query: StreamingQuery) -> bool:
        """Must this stream stop?"""
        if wanted is None:
            return False
        if wanted.restarts != self._wanted.restarts:
            log.info("restart requested")
            return True
        if wanted.pause is None or not wanted.pause.drain:
            self._last = None
            return wanted.pause is not None
        self._last = self._last or TideMark(describe_log(self._of, self._log.binding).ends)
        return self._batches.offsets.joined(_processed(query, self._log.binding)).reaches(self._last)


def _processed(query: StreamingQuery, binding: Binding) -> TideMark:
    """The offsets that Spark has reached with finished micro-batches. They include offsets without events, as transactions leave them."""
    progress = query.lastProgress
    ends = json.loads((progress["sources"][0]["endOffset"] if progress else None) or "{}")
    return TideMark(
        {
            TopicPartition(topic, int(partition)): binding.logical(offset)
            for topic, those in ends.items()
            for partition, offset in those.items()
        }
    )


def follow(database: Database[Document], of: Settings, stop_requested: threading.Event) -> None:
    """Waits while the stream is paused, then runs it; a new generation starts whenever partitions have been added or have another leader,
    or a micro-batch was too large.

    Returns when told to stop, or when a new process must take over. Raises whatever else ended the last generation.
    """
    wanted = _wait_while_paused(database, of.airflow_names, stop_requested)
    _ready(ledger.read(database), of)  # before Spark, whose start takes longest
    spark = session("tidemark-speed", of, memory=of.speed_memory, cores=of.speed_cores, ui_port=of.spark_ui_port)
    events_per_batch = of.max_events_per_batch
    while not stop_requested.is_set():
        before = ledger.read(database)
        found = _ready(before, of)
        rules = withdrawals.in_force(database, of.rules)
        own = ledger.start_generation(database, rules.fingerprint(), found.identities, before)
        metrics.GENERATION.set(own.generation)
        try:
            Stream(spark, database, of, found, own, rules, wanted, stop_requested, events_per_batch).run()
        except (NewPartition, NewLeader) as reason:
            log.info("%s", reason)
        except TooLarge as reason:
            log.info("%s", reason)
            events_per_batch = min(events_per_batch, new_cells.EVENTS_OF_A_SMALL_BATCH)
        except Held as reason:
            log.warning("stopped: %s", reason)
            control.mark_stopped(database)
            return
        else:
            control.mark_stopped(database)
            return


def _wait_while_paused(database: Database[Document], names: AirflowNames, stop_requested: threading.Event) -> Control:
    """The desired state after the wait. It is read before the rules, because a change of the rules requests a restart afterwards."""
    logged = False
    while (wanted := control.read(database)).pause is not None and not stop_requested.wait(HEARTBEAT_SECONDS):
        if not logged:
            logged = True
            log.info("%s; resume with `make resume` or DAG %s", control.describe(wanted), names.of(Dag.STREAM))
            control.mark_stopped(database)
    return wanted


def _ready(own: ledger.Ledger, of: KafkaSettings) -> Log:
    """The log, checked to be the one that the ledger's offsets refer to, and readable from there.

    `own` was read before, so that the end of the log is not older than the offsets. Raises Fenced, UnsafeTopic, TopicsRecreated,
    MissingOffsets, OtherRecords.
    """
    own.require_no_rebuild()
    found = describe_log(of, own.binding)
    own.binding.require_topics(found.identities)
    found.require(own.offsets)
    require_records(of, found, own.witness)
    return found


def main() -> int:
    """Exit status 0 when told to stop, 1 otherwise; the last line of the log says why and what to do."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    for noisy in ("py4j", "kafka", "pymongo"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    stop_requested = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop_requested.set())
    of = settings()
    with connect(of.mongodb) as client:
        database = database_of(client, of.database)
        metrics.serve(database, of)
        try:
            follow(database, of, stop_requested)
        except ledger.Fenced as reason:
            log.warning("stopped: %s", reason)
            return 1
        except (UnsafeTopic, MissingOffsets, OtherRecords, OtherLayout, TopicsRecreated, ledger.NotPrepared) as reason:
            log.error("cannot run: %s", reason)
            return 1
        except Exception as error:
            log.exception("the stream has failed")
            log.error("%s; nothing is lost: the next start continues from the ledger's offsets", type(error).__name__)
            return 1
    return 0


def _fresh_folder(parent: Path, name: str) -> Path:
    """A new empty folder. Folders of former generations are deleted."""
    shutil.rmtree(parent, ignore_errors=True)
    folder = parent / name
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
