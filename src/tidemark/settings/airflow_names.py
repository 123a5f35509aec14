"""The names of this installation's DAGs, pools and connections in an Airflow that may be shared.

Each begins with the setting `airflow_prefix`: `Dag.INGEST.id` is `tidemark_ingest`.
"""

from __future__ import annotations

from enum import Enum

from tidemark.settings import settings


class _Named(Enum):
    @property
    def id(self) -> str:
        """The name in Airflow."""
        return f"{settings().airflow_prefix}_{self.value}"


class Dag(_Named):
    INGEST = "ingest"
    NIGHTLY_BATCH = "nightly_batch"
    HISTORY = "history"
    REBUILD = "rebuild"
    WITHDRAW = "withdraw"
    REPLAY_QUARANTINE = "replay_quarantine"
    DISCARD_QUARANTINE = "discard_quarantine"
    STREAM = "stream"
    ALERTS = "alerts"
    MAINTENANCE = "maintenance"


class Pool(_Named):
    INGEST = "ingest"  # limits the chunks read and produced in parallel
    SERVED = "served"  # limits the runs that wait, each occupying a worker, until the stream has served them
    SPARK = "spark"  # limits the parallel Spark batch jobs


class Connection(_Named):
    KAFKA = "kafka"
    MONGODB = "mongodb"
    # Created by the user in Airflow or its environment, to receive alerts.
    SMTP = "smtp"
    WEBHOOK = "webhook"
