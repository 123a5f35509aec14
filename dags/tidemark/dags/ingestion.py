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

from airflow.providers.apache.kafka.hooks.produce import KafkaProducerHook
from airflow.providers.mongo.sensors.mongo import MongoSensor
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import CronPartitionTimetable, ObjectStoragePath, Param, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from tidemark.dags import policy
from tidemark.dags.dashboards import Dashboard, add_dashboard_links
from tidemark.dags.mongodb import connected
from tidemark.ingest import jobs
from tidemark.settings import settings
from tidemark.settings.airflow_names import Connection, Dag, Pool

NAMES = settings().airflow_names
FILES: dict[str, Any] = {"type": "array", "items": {"type": "string", "minLength": 1}}
PARAMETERS = {
    "products": Param([], title="Product files", description_md="Paths or URLs, one per line. Empty: files of the run's day", **FILES),
    "categories": Param([], title="Category files", description_md="Paths or URLs, one per line. Empty: files of the run's day", **FILES),
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
        description_md='Our name to name in the file: `{"price": "Price", "imgUrl": ""}`; `""`: not in the file. Empty: as in the settings',
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


@dag(
    **policy.of("ingestion", permanent_errors=jobs.PERMANENT_ERRORS, retry_delay=timedelta(seconds=10)),
    dag_id=NAMES.of(Dag.INGEST),
    schedule=CronPartitionTimetable("0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
    start_date=datetime(1995, 1, 1, tzinfo=UTC),  # with it, the latest day's run starts at once instead of at midnight
    max_active_runs=32,  # many runs may wait to be served; pools limit concurrent work
    params=PARAMETERS,
    doc_md=__doc__,
)
def ingest() -> None:
    @task.branch(pool=NAMES.of(Pool.INGEST))
    def preview(params: dict[str, Any], dag_run: Any, ti: Any) -> str | None:
        files = jobs.files_of(dag_run.partition_key, params, settings(), ObjectStoragePath)
        with connected(settings()) as database:
            ahead = jobs.look_ahead(database, files, params, settings())
        ti.xcom_push("preview", ahead.preview)
        ti.xcom_push("words", ahead.words)
        return ahead.step

    @task(pool=NAMES.of(Pool.INGEST), trigger_rule="none_failed")
    def plan(params: dict[str, Any], dag_run: Any, ti: Any) -> list[dict[str, Any]]:
        files = jobs.files_of(dag_run.partition_key, params, settings(), ObjectStoragePath)
        if not files:
            raise AirflowSkipException(f"no files match the patterns in the settings for {dag_run.partition_key}")
        with connected(settings()) as database:
            planned = jobs.plan(
                database,
                files,
                params["chunk_bytes"] or settings().chunk_bytes,
                settings(),
                jobs.columns(params, settings()),
            )
        ti.xcom_push("ingestions", planned.ingestions)
        return planned.chunks

    @task(pool=NAMES.of(Pool.INGEST), map_index_template="{{ task.op_kwargs['chunk']['label'] }}")
    def produce(chunk: dict[str, Any]) -> None:
        kafka = KafkaProducerHook(NAMES.of(Connection.KAFKA))
        configuration = kafka.get_connection(NAMES.of(Connection.KAFKA)).extra_dejson
        with connected(settings()) as database:
            jobs.produce(database, kafka.get_producer, configuration, chunk, ObjectStoragePath, settings())

    @task(outlets=[policy.PRODUCTS], trigger_rule="none_failed_min_one_success")
    def reconcile(identities: list[str]) -> dict[str, Any]:
        with connected(settings()) as database:
            return jobs.reconcile(database, identities, settings())

    looked = preview()
    approve = ApprovalOperator(
        task_id=jobs.APPROVE,
        subject="Ingest these files?",
        body="{{ ti.xcom_pull('preview', key='words') }}",
        **policy.NO_EXECUTION_TIMEOUT,
    )
    planned = plan()
    looked >> [approve, planned]
    approve >> planned
    reconciled = reconcile(planned["ingestions"])
    produce.expand(chunk=planned) >> reconciled
    served = MongoSensor(
        task_id="served",
        mongo_conn_id=NAMES.of(Connection.MONGODB),
        mongo_db=settings().database,
        collection="state",
        query=reconciled,
        poke_interval=1,
        timeout=policy.WAIT_WITHIN.total_seconds(),
        pool=NAMES.of(Pool.SERVED),  # limits waiting to one worker, so that the others stay free
    )
    add_dashboard_links(reconciled, Dashboard.PIPELINE)
    add_dashboard_links(served, Dashboard.CATALOG)


ingest()
