"""What all DAGs have in common: whose they are, when a task is tried again and when it is given up, and what they tell each other.

`@dag(**policy.of("batch", permanent_errors=[...]), ...)` is a DAG of that policy. No DAG itself (.airflowignore names it).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from airflow.sdk import Asset, ExceptionRetryPolicy, RetryAction, RetryRule

# A DAG's docstring says in its first paragraph what it does; these begin two others.
WHEN, IF_IT_FAILS = "**When to run it.**", "**If it fails.**"

RUN_WITHIN = timedelta(days=7)  # a person's answer included
WAIT_WITHIN = timedelta(hours=6)  # until the stream has served what a run has sent
TASK_WITHIN = timedelta(hours=8)  # longer than that, and several times what a night in full takes with tens of millions of events

PRODUCTS = Asset(name="products", uri="tidemark://products", group="tidemark")  # files have been sent
REPORTS = Asset(name="reports", uri="tidemark://reports", group="tidemark")  # a publication is served

# Of a task that waits for a person, which takes no worker. It ends with its run.
NO_EXECUTION_TIMEOUT = {"execution_timeout": None}


def of(kind: str, *, permanent_errors: Iterable[type[Exception]] = (), **tasks: Any) -> dict[str, Any]:
    """Arguments of a DAG of a kind (a tag): ingestion, batch, operations.

    `permanent_errors` are exceptions that another attempt would raise again; `tasks` are arguments of all its tasks, over the usual ones.
    """
    fail_at_once = RetryRule(list(permanent_errors), RetryAction.FAIL, reason="another attempt would end the same")
    return {
        "tags": ["tidemark", kind],
        "catchup": False,
        "dagrun_timeout": RUN_WITHIN,
        "default_args": {
            "owner": "tidemark",
            "retries": 3,
            "retry_delay": timedelta(seconds=30),
            "retry_policy": ExceptionRetryPolicy([fail_at_once]),
            "execution_timeout": TASK_WITHIN,
            **tasks,
        },
    }
