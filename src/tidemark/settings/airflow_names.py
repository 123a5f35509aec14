"""The DAGs, pools and connections of an installation in an Airflow that may be shared, and their names there."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Dag(Enum):
    INGEST = "ingest"
    NIGHTLY_BATCH = "nightly_batch"
    HISTORY = "history"
    REBUILD = "rebuild"
    ADOPT = "adopt"
    WITHDRAW = "withdraw"
    REPLAY_QUARANTINE = "replay_quarantine"
    DISCARD_QUARANTINE = "discard_quarantine"
    STREAM = "stream"
    ALERTS = "alerts"
    MAINTENANCE = "maintenance"


class Pool(Enum):
    INGEST = "ingest"  # limits the chunks read and produced in parallel
    SERVED = "served"  # limits the runs that wait, each occupying a worker, until the stream has served them
    SPARK = "spark"  # limits the parallel Spark batch jobs


class Connection(Enum):
    KAFKA = "kafka"
    MONGODB = "mongodb"
    # Created by the user in Airflow or its environment, to receive alerts.
    SMTP = "smtp"
    WEBHOOK = "webhook"


class AirflowNames(NamedTuple):
    """The names of an installation. Each begins with its prefix: with prefix `tidemark`, Dag.INGEST is `tidemark_ingest`."""

    prefix: str

    def of(self, one: Dag | Pool | Connection) -> str:
        """The name in Airflow."""
        return f"{self.prefix}_{one.value}"
