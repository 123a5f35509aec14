"""The stream's /metrics, for Prometheus. Values that only MongoDB has are read at each scrape, and left out if they are not available."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector
from pymongo import timeout
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tidemark.serving.database import Document
from tidemark.serving.ledger import LEDGER
from tidemark.serving.operations import MEASURED_RECENTLY
from tidemark.settings.sections import StreamSettings

ANSWER_SECONDS = 2.0  # timeout of MongoDB at a scrape

EVENTS = Counter("tidemark_speed_events", "Events served, including rejected ones")
REJECTED = Counter("tidemark_speed_rejected_events", "Events that were rejected")
SECONDS = Histogram(
    "tidemark_speed_micro_batch_seconds",
    "Time from a micro-batch's start to its commit",
    buckets=(0.1, 0.25, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 80),
)
GENERATION = Gauge("tidemark_speed_generation", "Generation of this stream")

log = logging.getLogger("tidemark.speed")


def committed(events: int, rejected: int, seconds: float) -> None:
    """Counts a committed micro-batch."""
    EVENTS.inc(events)
    REJECTED.inc(rejected)
    SECONDS.observe(seconds)


class Progress(Collector):
    """The stream's progress, from the ledger and the watcher of the log's end."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering this collector does not query MongoDB."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        behind = GaugeMetricFamily(
            "tidemark_speed_behind_events", "Offsets of the log that are not served yet, if known", labels=("topic", "partition")
        )
        committed = GaugeMetricFamily("tidemark_speed_committed_timestamp_seconds", "When the last micro-batch was committed")
        try:
            with timeout(ANSWER_SECONDS):
                for one in self._database.report_partition.aggregate([{"$match": {"$expr": MEASURED_RECENTLY}}]):
                    behind.add_metric((one["topic"], str(one["partition"])), one["behind"])
                ledger = self._database.state.find_one({"_id": LEDGER}) or {}
                if at := ledger.get("committed_at"):
                    committed.add_metric((), at.timestamp())
        except PyMongoError as error:
            log.warning("metrics from MongoDB are not available: %s", error)
        yield from (behind, committed)


def serve(database: Database[Document], of: StreamSettings) -> None:
    """Serves /metrics at the address of the settings until the process ends. If the port is taken, it only logs a warning."""
    try:
        start_http_server(of.speed_metrics_port, of.speed_metrics_host)
    except OSError as error:
        log.warning(
            "cannot serve metrics at %s: %s. Choose another port with TIDEMARK_SPEED_METRICS_PORT",
            of.speed_metrics_url,
            error.strerror,
        )
        return
    REGISTRY.register(Progress(database))
