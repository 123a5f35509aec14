"""The forms of DAGs `tidemark_replay_quarantine` and `tidemark_discard_quarantine`.

Each call makes new parameters, because Airflow keeps a run's values in them.
This file is not a DAG (it is listed in .airflowignore).
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from tidemark.catalog.observations import Reason
from tidemark.ingest.jobs import MOMENT_PATTERN

REASONS = [str(one) for one in Reason if one is not Reason.WITHDRAWN]
TEXT: dict[str, Any] = {"type": ["null", "string"]}
MOMENT: dict[str, Any] = {**TEXT, "format": "date-time", "pattern": MOMENT_PATTERN}


def replay_parameters() -> dict[str, Param]:
    patch = Param(
        None,
        title="Patch",
        description_md='New values by field, used only where the field breaks its rule: `{"price": "0"}`. Empty: records stay unchanged',
        type=["null", "object"],
        additionalProperties={"type": "string"},
    )
    return {"patch": patch, **_parameters()}


def discard_parameters() -> dict[str, Param]:
    return {"why": Param("", title="Why", description_md="Reason for discarding; kept with the records", type="string"), **_parameters()}


def _parameters() -> dict[str, Param]:
    return {
        "reason": Param(None, title="Reason", description_md="Only records with this reason. Empty: all", examples=REASONS, **TEXT),
        "file": Param(None, title="File", description_md="Name, path or URL; `api`: records not from a file. Empty: all", **TEXT),
        "since": Param(None, title="Since", description_md="Records that Kafka received at or after this time. Empty: no limit", **MOMENT),
        "until": Param(None, title="Until", description_md="Records that Kafka received before this time. Empty: no limit", **MOMENT),
        "dry_run": Param(False, title="Dry run", description_md="Only show the preview; change nothing", type="boolean"),
        "hold": Param(True, title="Hold for approval", description_md="Show the preview and wait for approval", type="boolean"),
    }
