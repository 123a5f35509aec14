"""DAG `tidemark_nightly_batch`: recomputes the reports from the raw history, compares them with the served ones, and publishes the result.

**When to run it.**

- *Every night* at 02:00 UTC. A run publishes the present state, not a day's, so there is nothing to backfill (see DAG `tidemark_history`).
- *By hand*: choose a mode, and what to do if the stream's numbers differ: correct them, ask for approval first, or fail.

It waits for approval (see Required Actions) if the new publication differs from the served one by more than the settings
`TIDEMARK_IMPLAUSIBLE_...` allow. If it is rejected or not answered, the previous publication stays served.

**If it fails.** The previous publication stays served, and the stream keeps the reports up to date. The last line of the task's log says
what to do. Clear the task: each task is idempotent, and one whose cut is outdated says "start again at cut". The next night catches up.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import CronTriggerTimetable, Param, dag, task

from tidemark.dags import batch_job, policy
from tidemark.dags.dashboards import Dashboard, add_dashboard_links
from tidemark.dags.mongodb import connected
from tidemark.serving import verifications
from tidemark.settings import settings
from tidemark.settings.airflow_names import Dag, Pool

NAMES = settings().airflow_names
PARAMETERS = {
    "mode": Param(
        "auto",
        title="Mode",
        description_md="`incremental`: new events; `full`: the whole raw history; `auto`: incremental, regularly full (setting full_every)",
        enum=["auto", "incremental", "full"],
        type="string",
    ),
    "on_drift": Param(
        "correct",
        title="If the stream's numbers differ",
        description_md="`correct` them; `ask` for approval first, while the previous publication stays served; `fail`",
        enum=["correct", "ask", "fail"],
        type="string",
    ),
    "hold": Param(
        None,
        title="Hold for approval",
        description_md="Wait for approval before publishing. Empty: only if it differs from the served one by more than the settings allow",
        type=["null", "boolean"],
    ),
    "keep": Param(None, title="Publications to keep", description_md="Empty: as in the settings", type=["null", "integer"], minimum=1),
}


@dag(
    # Served reports have priority over the history.
    **policy.of("batch", permanent_errors=[batch_job.JobFailedPermanently, verifications.Drifted], priority_weight=10),
    dag_id=NAMES.of(Dag.NIGHTLY_BATCH),
    schedule=CronTriggerTimetable("0 2 * * *", timezone="UTC"),
    max_active_runs=1,
    params=PARAMETERS,
    doc_md=__doc__,
)
def nightly_batch() -> None:
    @task(pool=NAMES.of(Pool.SPARK), inlets=[policy.PRODUCTS])
    def land() -> None:
        batch_job.run(settings(), "land")

    @task(pool=NAMES.of(Pool.SPARK))
    def cut() -> int:
        number: int = batch_job.run(settings(), "cut")
        return number

    @task(pool=NAMES.of(Pool.SPARK))
    def recompute(number: int, params: dict[str, Any]) -> None:
        batch_job.run(settings(), "recompute", number, "--mode", params["mode"])

    @task(pool=NAMES.of(Pool.SPARK))
    def verify(number: int) -> dict[str, Any]:
        found: dict[str, Any] = batch_job.run(settings(), "verify", number)
        return found

    @task.branch
    def decide(number: int, params: dict[str, Any]) -> str:
        of = settings()
        with connected(of) as database:
            found = verifications.read(database, number)
        return "approve" if verifications.requires_approval(found, params["on_drift"], of, params["hold"]) else "publish"

    @task(pool=NAMES.of(Pool.SPARK), outlets=[policy.REPORTS], trigger_rule="none_failed_min_one_success")
    def publish(number: int, params: dict[str, Any]) -> None:
        of = settings()
        batch_job.run(of, "publish", number, "--keep", params["keep"] or of.keep_publications)

    approve = ApprovalOperator(
        task_id="approve",
        subject="Publish this version?",
        body="*Approve* publishes it and corrects the stream's differences. *Reject* keeps the previous publication served until the next "
        "nightly batch.\n\n{{ ti.xcom_pull(task_ids='verify')['form'] }}",
        **policy.NO_EXECUTION_TIMEOUT,
    )
    number = cut()
    verified, decided, published = verify(number), decide(number), publish(number)
    land() >> number >> recompute(number) >> verified >> decided >> [approve, published]
    approve >> published
    add_dashboard_links(verified, Dashboard.PIPELINE)
    add_dashboard_links(published, Dashboard.CATALOG, Dashboard.PIPELINE)


nightly_batch()
