"""DAG `nightly_batch`: recomputes the reports from the raw history, compares them with what is served, and serves the result.

- *Every night* at 02:00 UTC; it has no day of its own: it publishes the present, so there is nothing to backfill (days are the history's).
- *By hand* with a mode, and what is to be done where the stream's numbers differ: correct them, ask a person first, or fail.

Each task can be retried or cleared on its own: none does anything twice, and one that comes too late says "start again at cut".
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.mongo.hooks.mongo import MongoHook
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Asset, CronTriggerTimetable, ExceptionRetryPolicy, Param, RetryAction, RetryRule, dag, task

from ingest.connections import MONGODB_CONNECTION
from serving import verifications
from serving.database import tidemark
from settings import settings
from spark import job

PRODUCTS = Asset(name="products", uri="tidemark://products", group="tidemark")
REPORTS = Asset(name="reports", uri="tidemark://reports", group="tidemark")

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
    "keep": Param(None, title="Publications to keep", description_md="None: as the settings say", type=["null", "integer"], minimum=1),
}

FAIL_AT_ONCE = RetryRule([job.JobFailedForGood, verifications.Drifted], RetryAction.FAIL, reason="another attempt would end the same")


@dag(
    dag_id="nightly_batch",
    schedule=CronTriggerTimetable("0 2 * * *", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    params=PARAMETERS,
    default_args={
        "owner": "tidemark",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_policy": ExceptionRetryPolicy([FAIL_AT_ONCE]),
        "priority_weight": 10,  # what is served goes before what is past
    },
    tags=["tidemark", "batch"],
    doc_md=__doc__,
)
def nightly_batch() -> None:
    @task(pool="spark", inlets=[PRODUCTS])
    def land() -> None:
        job.run("land")

    @task(pool="spark")
    def cut() -> int:
        return job.run("cut")

    @task(pool="spark")
    def recompute(number: int, params: dict) -> None:
        job.run("recompute", number, "--mode", params["mode"])

    @task(pool="spark")
    def verify(number: int) -> dict:
        return job.run("verify", number)

    @task.branch
    def decide(number: int, params: dict) -> str:
        with MongoHook(MONGODB_CONNECTION) as mongo:
            found = verifications.read(tidemark(mongo.get_conn()), number)
        return "approve" if verifications.asks(found, params["on_drift"]) else "publish"

    @task(pool="spark", outlets=[REPORTS], trigger_rule="none_failed_min_one_success")
    def publish(number: int, params: dict) -> None:
        job.run("publish", number, "--keep", params["keep"] or settings().keep_publications)

    approve = ApprovalOperator(
        task_id="approve",
        subject="Is the drift to be corrected?",
        body="{{ ti.xcom_pull(task_ids='verify')['text'] }}",
    )
    number = cut()
    decided, published = decide(number), publish(number)
    land() >> number >> recompute(number) >> verify(number) >> decided >> [approve, published]
    approve >> published


nightly_batch()
