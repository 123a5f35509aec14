"""DAG `tidemark_ingest`: sends a day's CSV files, or files given by hand, to Kafka in chunks, and waits until the reports include them.

**When to run it.**

- *Every day*, after the day has ended: ingests the files that match the patterns in the settings; without files the run is skipped.
- *A range of days*: a backfill. Days that already have a run are left out, unless they are to be run again.
- *By hand*: give files and dates. To ingest a day's files, give the day as the run's partition key.
- *Dry run*: task `preview` logs what the run would change and sends nothing.

A run can wait for approval (see Required Actions) before it sends anything: always, or if a preview exceeds the thresholds in the settings.
Files may be CSV, CSV in a zip archive, or gzip.

**If it fails.** The last line of the task's log says what to do; then clear the task. Ingestion is idempotent: a file's content with its
date is one ingestion, and finished chunks stay finished. A file that cannot be ingested (no header, no date) fails at once and sends
nothing; errors of servers are retried.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.mongo.sensors.mongo import MongoSensor
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import CronPartitionTimetable, ObjectStoragePath, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from tidemark.dags import policy
from tidemark.dags.chunks import produce
from tidemark.dags.dashboards import Dashboard, add_dashboard_links
from tidemark.dags.ingestion_form import parameters
from tidemark.dags.mongodb import connected
from tidemark.ingest import jobs, sources
from tidemark.settings import settings
from tidemark.settings.airflow_names import Connection, Dag, Pool

NAMES = settings().airflow_names


@dag(
    **policy.of("ingestion", permanent_errors=jobs.PERMANENT_ERRORS, retry_delay=timedelta(seconds=10)),
    dag_id=NAMES.of(Dag.INGEST),
    schedule=CronPartitionTimetable("0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
    start_date=datetime(1995, 1, 1, tzinfo=UTC),  # with it, the latest day's run starts at once instead of at midnight
    max_active_runs=32,  # many runs may wait to be served; pools limit concurrent work
    params=parameters(),
    doc_md=__doc__,
)
def ingest() -> None:
    @task.branch(pool=NAMES.of(Pool.INGEST))
    def preview(params: dict[str, Any], dag_run: Any, ti: Any) -> str | None:
        of = settings()
        files = jobs.files_of(dag_run.partition_key, params, of, sources.allowed(of, ObjectStoragePath))
        with connected(of) as database:
            decision = jobs.preview_run(database, files, params, of)
        ti.xcom_push("preview", decision.preview)
        ti.xcom_push("text", decision.text)
        return decision.step

    @task(pool=NAMES.of(Pool.INGEST), trigger_rule="none_failed")
    def plan(params: dict[str, Any], dag_run: Any, ti: Any) -> list[jobs.ChunkKey]:
        of = settings()
        files = jobs.files_of(dag_run.partition_key, params, of, sources.allowed(of, ObjectStoragePath))
        if not files:
            raise AirflowSkipException(f"no files match the patterns in the settings for {dag_run.partition_key}")
        with connected(of) as database:
            planned = jobs.plan(database, files, jobs.chunk_bytes_of(params, of), of, jobs.columns(params, of))
        ti.xcom_push("ingestions", planned.ingestions)
        return planned.chunks

    @task(outlets=[policy.PRODUCTS], trigger_rule="none_failed_min_one_success")
    def reconcile(identities: list[str]) -> dict[str, Any]:
        with connected(settings()) as database:
            return jobs.reconcile(database, identities, settings())

    previewed = preview()
    approve = ApprovalOperator(
        task_id=jobs.APPROVE,
        subject="Ingest these files?",
        body="{{ ti.xcom_pull('preview', key='text') }}",
        **policy.NO_EXECUTION_TIMEOUT,
    )
    planned = plan()
    previewed >> [approve, planned]
    approve >> planned
    reconciled = reconcile(planned["ingestions"])
    produce.expand_kwargs(planned) >> reconciled
    served = MongoSensor(
        task_id="served",
        mongo_conn_id=NAMES.of(Connection.MONGODB),
        mongo_db=settings().database,
        collection="state",
        query=reconciled,
        poke_interval=1,
        timeout=policy.WAIT_TIMEOUT.total_seconds(),
        pool=NAMES.of(Pool.SERVED),  # limits waiting to one worker, so that the others stay free
    )
    add_dashboard_links(reconciled, Dashboard.PIPELINE)
    add_dashboard_links(served, Dashboard.CATALOG)


ingest()
