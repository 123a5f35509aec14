"""What this installation's DAGs, pools and connections are called in Airflow, which may run those of other teams too.

Each begins with the setting `airflow_prefix`: `Dag.INGEST.id` is `tidemark_ingest`.
"""

from __future__ import annotations

from enum import Enum

from tidemark.settings import settings


class _Named(Enum):
    @property
    def id(self) -> str:
        """Its name in Airflow."""
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
    INGEST = "ingest"  # chunks that are read and produced at once
    SERVED = "served"  # runs that wait, each with a worker, until the stream has served them
    SPARK = "spark"  # Spark batch jobs at once


class Connection(_Named):
    KAFKA = "kafka"
    MONGODB = "mongodb"
    # Created by whoever wants to receive alerts, in Airflow or its environment.
    SMTP = "smtp"
    WEBHOOK = "webhook"
