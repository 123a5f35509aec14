"""DAG `tidemark_adopt`: goes on with the log and the raw history that there are, after one of them or MongoDB was lost or restored.

**When to run it.** When the stream or the nightly batch refuses to run because events are missing, a topic was recreated, or the raw
history is another one. The run compares log, raw history and database, shows which events are certain and which are lost, and waits for
approval, unless nothing is lost. Then it rebuilds the reports from everything in the raw history, lets the stream continue with the log,
and sends the rows of files again whose events may be lost. First restore what can be restored: what is adopted as lost stays lost.

**If it fails.** Clear the failed task: each task continues where it stopped. Task `adopt` refuses if more has been lost since it was shown:
then trigger the DAG again. A chunk whose file is no longer there fails: restore the file and clear the task, or leave it.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException

from tidemark.dags import batch_job, policy
from tidemark.dags.chunks import produce
from tidemark.dags.dashboards import Dashboard, add_dashboard_links
from tidemark.dags.mongodb import connected
from tidemark.ingest import jobs
from tidemark.settings import settings
from tidemark.settings.airflow_names import Dag, Pool

NAMES = settings().airflow_names


@dag(
    **policy.of("batch", permanent_errors=[batch_job.JobFailedPermanently, *jobs.PERMANENT_ERRORS]),
    dag_id=NAMES.of(Dag.ADOPT),
    schedule=None,
    max_active_runs=1,
    doc_md=__doc__,
)
def adopt() -> None:
    @task(pool=NAMES.of(Pool.SPARK), multiple_outputs=True)
    def compare() -> dict[str, Any]:
        found: dict[str, Any] = batch_job.run(settings(), "adopt", "--dry-run")
        return found

    approve = ApprovalOperator(
        task_id="approve",
        subject="Go on with this log and this raw history?",
        body="{{ ti.xcom_pull(task_ids='compare', key='text') }}",
        **policy.NO_EXECUTION_TIMEOUT,
    )

    @task.branch
    def decide(continues: bool) -> str:
        return "adopt" if continues else "approve"

    @task(task_id="adopt", pool=NAMES.of(Pool.SPARK), outlets=[policy.REPORTS], trigger_rule="none_failed_min_one_success")
    def adopted(shown: str) -> None:
        batch_job.run(settings(), "adopt", "--as-shown", shown)

    @task
    def lost_chunks() -> list[jobs.ChunkKey]:
        with connected(settings()) as database:
            lost = jobs.lost_chunks(database)
        if not lost:
            raise AirflowSkipException("no file has rows whose events may be lost")
        return lost

    compared = compare()
    asked, done, lost = decide(compared["continues"]), adopted(compared["shown"]), lost_chunks()
    asked >> [approve, done]
    approve >> done >> lost
    produce.expand_kwargs(lost)
    add_dashboard_links(done, Dashboard.CATALOG, Dashboard.PIPELINE)


adopt()
