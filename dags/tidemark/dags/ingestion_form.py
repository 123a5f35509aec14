"""The form of DAG `tidemark_ingest`. Each call makes new parameters, because Airflow keeps a run's values in them.

This file is not a DAG (it is listed in .airflowignore).
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from tidemark.ingest import jobs

FILES: dict[str, Any] = {"type": "array", "items": {"type": "string", "minLength": 1}}


def parameters() -> dict[str, Param]:
    return {
        "products": Param([], title="Product files", description_md="Paths or URLs, one per line. Empty: files of the run's day", **FILES),
        "categories": Param(
            [], title="Category files", description_md="Paths or URLs, one per line. Empty: files of the run's day", **FILES
        ),
        "observed_at": Param(
            [],
            title="Date of observation",
            description_md="When the data was observed: `2023-12-31`, or one date per product file, in their order. Empty: the run's day",
            type="array",
            items={"type": "string", "pattern": jobs.MOMENT_PATTERN},
        ),
        "columns": Param(
            None,
            title="Column mapping",
            description_md='Our name to name in the file: `{"price": "Price", "imgUrl": ""}`; `""`: not in the file. '
            "Empty: as in the settings",
            type=["null", "object"],
            additionalProperties={"type": "string"},
        ),
        "dry_run": Param(False, title="Dry run", description_md="Only show what would change; send nothing", type="boolean"),
        "hold": Param(
            None,
            title="Hold for approval",
            description_md="Wait for approval before anything is sent. Empty: only if a preview exceeds the thresholds in the settings",
            type=["null", "boolean"],
        ),
        "chunk_bytes": Param(
            None, title="Chunk size", description_md="In bytes. Empty: as in the settings", type=["null", "integer"], minimum=1
        ),
    }
