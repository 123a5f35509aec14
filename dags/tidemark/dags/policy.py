"""The policy of all DAGs: owner, tags, retries, timeouts, and the assets that connect them.

A DAG applies it with `@dag(**policy.of("batch", permanent_errors=[...]), ...)`. This file is not a DAG (it is listed in .airflowignore).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, ExceptionRetryPolicy, RetryAction, RetryRule

# The first paragraph of a DAG's docstring says what it does; two others begin with these words.
WHEN, ON_FAILURE = "**When to run it.**", "**If it fails.**"

RUN_TIMEOUT = timedelta(days=7)  # including the wait for a person's answer
WAIT_TIMEOUT = timedelta(hours=6)  # until the stream has served the events that a run sent
TASK_TIMEOUT = timedelta(hours=8)  # longer than WAIT_TIMEOUT, and several times a full nightly batch of tens of millions of events

PRODUCTS = Asset(name="products", uri="tidemark://products", group="tidemark")  # updated when files have been sent
REPORTS = Asset(name="reports", uri="tidemark://reports", group="tidemark")  # updated when a publication is served

# For tasks that wait for a person: they occupy no worker, and end with their run at the latest.
NO_EXECUTION_TIMEOUT: dict[str, Any] = {"execution_timeout": None}


def of(kind: str, *, permanent_errors: Iterable[type[Exception]] = (), **tasks: Any) -> dict[str, Any]:
    """Arguments for a DAG of a kind (a tag): ingestion, batch, quarantine, operations.

    `permanent_errors` are exceptions that a retry would raise again; `tasks` override the default arguments of all tasks.
    """
    fail_at_once = RetryRule(list(permanent_errors), RetryAction.FAIL, reason="a retry would fail in the same way")
    return {
        "tags": ["tidemark", kind],
        "catchup": False,
        "dagrun_timeout": RUN_TIMEOUT,
        "default_args": {
            "owner": "tidemark",
            "retries": 3,
            "retry_delay": timedelta(seconds=30),
            "retry_policy": ExceptionRetryPolicy([fail_at_once]),
            "execution_timeout": TASK_TIMEOUT,
            **tasks,
        },
    }
