"""The speed layer's entry point: `python -m spark.speed` follows the log until it is told to stop (SIGTERM) or is fenced.

Each start takes a new generation and a new, throw-away Spark checkpoint, and reads on from the ledger's offsets.
"""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from pymongo.database import Database
from pymongo.errors import PyMongoError
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from catalog.marks import TideMark
from catalog.rules import RULES
from serving import ledger
from serving.database import Document, connect, tidemark
from settings import settings
from spark.log import Log, MissingOffsets, UnfitTopic, look
from spark.microbatch import MicroBatches, NewPartition
from spark.session import session

HEARTBEAT_SECONDS = 1

log = logging.getLogger("tidemark.speed")


class Stream:
    """One generation of the stream. `stop` may be called from a signal handler."""

    def __init__(self, spark: SparkSession, database: Database[Document], found: Log, own: ledger.Ledger) -> None:
        self._spark = spark
        self._database = database
        self._log = found
        self._generation = own.generation
        self._start = own.offsets
        self._batches = MicroBatches(database, settings().mongodb, own, frozenset(found.ends), settings().category_topic)
        self._stopping = threading.Event()
        self._at_work = threading.Lock()  # held while a micro-batch runs, so that a stop falls between two
        self._failure: BaseException | None = None

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Until stopped. Raises what ended it otherwise: Fenced, NewPartition, or what Spark, Kafka and MongoDB raise."""
        checkpoint = _fresh_folder(settings().home / "speed", f"generation-{self._generation}")
        query = self._query(self._start, checkpoint)
        log.info("generation %d follows %s from %s", self._generation, ", ".join(settings().topics), self._start)
        try:
            while not self._stopping.is_set() and not query.awaitTermination(HEARTBEAT_SECONDS):
                self._beat()
        except StreamingQueryException:
            if self._failure is None:
                raise
        finally:
            with self._at_work:
                self._stopping.set()
                query.stop()
            shutil.rmtree(checkpoint, ignore_errors=True)
        if self._failure is not None:
            raise self._failure
        log.info("generation %d has stopped at %s", self._generation, self._batches.offsets)

    def _query(self, start: TideMark, checkpoint: Path) -> StreamingQuery:
        records = (
            self._spark.readStream.format("kafka")
            .option("kafka.bootstrap.servers", settings().kafka)
            .option("subscribe", ",".join(settings().topics))
            .option("startingOffsets", self._log.starting_offsets(start))
            .option("maxOffsetsPerTrigger", settings().max_events_per_batch)
            .option("failOnDataLoss", "true")
            .option("includeHeaders", "true")
            .load()
        )
        return (
            records.writeStream.foreachBatch(self._micro_batch)
            .option("checkpointLocation", checkpoint.as_uri())
            .trigger(processingTime=f"{settings().trigger_seconds} seconds")
            .start()
        )

    def _micro_batch(self, records: DataFrame, number: int) -> None:
        with self._at_work:
            if self._stopping.is_set():
                return
            try:
                self._batches.run(records, number)
            except BaseException as failure:
                self._failure = failure
                raise

    def _beat(self) -> None:
        try:
            ledger.heartbeat(self._database, self._generation)
        except PyMongoError as error:
            # The heartbeat's age shows it; a micro-batch that cannot do without MongoDB fails by itself.
            log.warning("no heartbeat: %s", error)


def main() -> int:
    """Exit status 0 when told to stop, 1 otherwise; the log's last line says why and what to do."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    for noisy in ("py4j", "kafka", "pymongo"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    told_to_stop = threading.Event()
    _on_signal(told_to_stop.set)
    with connect() as client:
        database = tidemark(client)
        try:
            found = look()
            found.require(ledger.read(database).offsets)
            spark = session("tidemark-speed", memory=settings().speed_memory, ui_port=settings().spark_ui_port)
            stream = Stream(spark, database, found, ledger.start_generation(database, RULES.fingerprint(), found.identities))
            _on_signal(stream.stop)
            if told_to_stop.is_set():
                return 0
            stream.run()
        except (ledger.Fenced, NewPartition) as reason:
            log.warning("stopped: %s", reason)
            return 1
        except (UnfitTopic, MissingOffsets, ledger.TopicsRecreated, LookupError) as reason:
            log.error("cannot run: %s", reason)
            return 1
        except Exception:
            log.exception("the stream has failed; nothing is lost: the next start goes on from the ledger's offsets")
            return 1
    return 0


def _on_signal(act: Callable[[], None]) -> None:
    def handle(_number: int, _frame: FrameType | None) -> None:
        act()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def _fresh_folder(parent: Path, name: str) -> Path:
    """A new empty folder; what former generations left beside it goes."""
    shutil.rmtree(parent, ignore_errors=True)
    folder = parent / name
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
