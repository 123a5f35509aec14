"""DAG `tidemark_nightly_batch`: recomputes the reports from the raw history, compares them with what is served, and serves the result.

**When to run it.**

- *Every night* at 02:00 UTC; it has no day of its own: it publishes the present, so there is nothing to backfill (days are the history's).
- *By hand* with a mode, and what is to be done where the stream's numbers differ: correct them, ask a person first, or fail.

It waits for a person (see Required Actions) where the new publication is less like the served one than the settings
`TIDEMARK_IMPLAUSIBLE_...` allow. Refused or not answered, the former one stays served.

**If it fails.** The former publication stays served, and the stream's reports go on. The last line of the task's log says what to do. Clear
the task: none does anything twice, and one that comes too late says "start again at cut". The next night makes up for what was missed.
"""

from __future__ import annotations

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import CronTriggerTimetable, Param, dag, task

from tidemark.dags import policy
from tidemark.dags.dashboards import Dashboard, add_dashboard_links
from tidemark.dags.mongodb import connected
from tidemark.serving import verifications
from tidemark.settings import settings
from tidemark.settings.airflow_names import Dag, Pool
from tidemark.spark import job

PARAMETERS = {
    "mode": Param(
        "auto",
        title="What is recomputed",
        description_md="`incremental`: what is new; `full`: the whole raw history; `auto`: full every so often (setting full_every)",
        enum=["auto", "incremental", "full"],
        type="string",
    ),
    "on_drift": Param(
        "correct",
        title="Where the stream's numbers differ",
        description_md="`correct` them; `ask` a person first, while the former publication stays served; `fail`",
        enum=["correct", "ask", "fail"],
        type="string",
    ),
    "hold": Param(
        None,
        title="Hold for approval",
        description_md="Wait for a person before it is published. None: where it is less like the served one than the settings allow",
        type=["null", "boolean"],
    ),
    "keep": Param(None, title="Publications to keep", description_md="None: as the settings say", type=["null", "integer"], minimum=1),
}


@dag(
    # What is served goes before what is past.
    **policy.of("batch", permanent_errors=[job.JobFailedPermanently, verifications.Drifted], priority_weight=10),
    dag_id=Dag.NIGHTLY_BATCH.id,
    schedule=CronTriggerTimetable("0 2 * * *", timezone="UTC"),
    max_active_runs=1,
    params=PARAMETERS,
    doc_md=__doc__,
)
def nightly_batch() -> None:
    @task(pool=Pool.SPARK.id, inlets=[policy.PRODUCTS])
    def land() -> None:
        job.run("land")

    @task(pool=Pool.SPARK.id)
    def cut() -> int:
        return job.run("cut")

    @task(pool=Pool.SPARK.id)
    def recompute(number: int, params: dict) -> None:
        job.run("recompute", number, "--mode", params["mode"])

    @task(pool=Pool.SPARK.id)
    def verify(number: int) -> dict:
        return job.run("verify", number)

    @task.branch
    def decide(number: int, params: dict) -> str:
        with connected() as database:
            found = verifications.read(database, number)
        return "approve" if verifications.asks(found, params["on_drift"], params["hold"]) else "publish"

    @task(pool=Pool.SPARK.id, outlets=[policy.REPORTS], trigger_rule="none_failed_min_one_success")
    def publish(number: int, params: dict) -> None:
        job.run("publish", number, "--keep", params["keep"] or settings().keep_publications)

    approve = ApprovalOperator(
        task_id="approve",
        subject="Is this to be published?",
        body="*Approve* publishes it, and corrects what the stream has made otherwise. *Reject* leaves the former publication served "
        "until another night.\n\n{{ ti.xcom_pull(task_ids='verify')['form'] }}",
        **policy.NO_EXECUTION_TIMEOUT,
    )
    number = cut()
    verified, decided, published = verify(number), decide(number), publish(number)
    land() >> number >> recompute(number) >> verified >> decided >> [approve, published]
    approve >> published
    add_dashboard_links(verified, Dashboard.PIPELINE)
    add_dashboard_links(published, Dashboard.CATALOG, Dashboard.PIPELINE)


nightly_batch()
