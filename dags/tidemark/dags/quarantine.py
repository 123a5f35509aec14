"""DAGs `tidemark_replay_quarantine` and `tidemark_discard_quarantine`: replay or discard the invalid records in quarantine."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.apache.kafka.hooks.produce import KafkaProducerHook
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag, task

from tidemark.dags import policy
from tidemark.dags.dashboards import Dashboard, add_dashboard_links
from tidemark.dags.mongodb import connected
from tidemark.dags.quarantine_forms import discard_parameters, replay_parameters
from tidemark.ingest import quarantine_jobs as jobs
from tidemark.settings import settings
from tidemark.settings.airflow_names import Connection, Dag, Pool

NAMES = settings().airflow_names
OPTIONS = {
    **policy.of("quarantine", permanent_errors=jobs.PERMANENT_ERRORS, retry_delay=timedelta(seconds=10)),
    "schedule": None,
    "max_active_runs": 1,
}
APPROVAL: dict[str, Any] = {"task_id": jobs.APPROVE, "body": "{{ ti.xcom_pull('preview', key='text') }}", **policy.NO_EXECUTION_TIMEOUT}


REPLAY = """DAG `tidemark_replay_quarantine`: validates quarantine records again, optionally with a patch, and replays the valid ones.

**When to run it.** After the rules have been corrected, or to set a field of many records. It first shows how many records there are, how
many would be valid, and why the others would not, and waits for approval (see Required Actions). Invalid records stay in quarantine. So do
rows with another number of fields than the header of their file: no patch can correct them. Records of a withdrawn ingestion are not
replayed: undo the withdrawal instead.

**If it fails.** Clear the task, or start another run with the same patch: replaying is idempotent.
"""
DISCARD = """DAG `tidemark_discard_quarantine`: closes quarantine records that need no action, and keeps the reason. Nothing is sent.

**When to run it.** For records that will never be valid, such as test rows or a file that was not a catalog. It first shows the records and
waits for approval (see Required Actions). If the preview shows records that are now valid, replay those instead. The events stay in the raw
history.

**If it fails.** Clear the task: records that are already discarded stay discarded.
"""


@task.branch(task_id="preview", pool=NAMES.of(Pool.INGEST))
def preview(step: str, params: dict[str, Any], ti: Any) -> str | None:
    of = settings()
    with connected(of) as database:
        decision = jobs.preview_run(database, params, step, of)
    assert decision.preview is not None  # only an ingestion may have none
    ti.xcom_push("text", decision.text)
    ti.xcom_push("mark", decision.preview["mark"])
    return decision.step


@dag(dag_id=NAMES.of(Dag.REPLAY_QUARANTINE), doc_md=REPLAY, params=replay_parameters(), **OPTIONS)
def replay_quarantine() -> None:
    @task(pool=NAMES.of(Pool.INGEST), outlets=[policy.PRODUCTS], trigger_rule="none_failed_min_one_success")
    def send(params: dict[str, Any], dag_run: Any, ti: Any) -> dict[str, Any]:
        kafka = KafkaProducerHook(NAMES.of(Connection.KAFKA))
        configuration = kafka.get_connection(NAMES.of(Connection.KAFKA)).extra_dejson
        mark = ti.xcom_pull(task_ids="preview", key="mark")
        of = settings()
        with connected(of) as database:
            return jobs.send(database, kafka.get_producer, configuration, params, mark, dag_run.run_id, of)._asdict()

    previewed, approve, sent = preview(jobs.SEND), ApprovalOperator(subject="Replay these records?", **APPROVAL), send()
    previewed >> [approve, sent]
    approve >> sent
    add_dashboard_links(sent, Dashboard.PIPELINE)


@dag(dag_id=NAMES.of(Dag.DISCARD_QUARANTINE), doc_md=DISCARD, params=discard_parameters(), **OPTIONS)
def discard_quarantine() -> None:
    @task(trigger_rule="none_failed_min_one_success")
    def discard(params: dict[str, Any], dag_run: Any, ti: Any) -> int:
        mark = ti.xcom_pull(task_ids="preview", key="mark")
        with connected(settings()) as database:
            return jobs.discard(database, params, mark, dag_run.run_id, NAMES)

    previewed = preview(jobs.DISCARD)
    approve, discarded = ApprovalOperator(subject="Discard these records?", **APPROVAL), discard()
    previewed >> [approve, discarded]
    approve >> discarded


replay_quarantine()
discard_quarantine()
