"""DAGs `tidemark_replay_quarantine` and `tidemark_discard_quarantine`: what is to become of the records that could not be understood."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.apache.kafka.hooks.produce import KafkaProducerHook
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, dag, task

from tidemark.catalog.observations import Reason
from tidemark.dags import policy
from tidemark.dags.dashboards import Dashboard, add_dashboard_links
from tidemark.dags.mongodb import connected
from tidemark.ingest import quarantine_jobs as jobs
from tidemark.ingest.jobs import MOMENT_PATTERN
from tidemark.settings.airflow_names import Connection, Dag, Pool

REASONS = [str(one) for one in Reason if one is not Reason.WITHDRAWN]
TEXT = {"type": ["null", "string"]}
MOMENT = {**TEXT, "format": "date-time", "pattern": MOMENT_PATTERN}


def parameters(**own: Param) -> dict[str, Param]:
    """A DAG's own, and what both have."""
    return {
        **own,
        "reason": Param(None, title="Reason", description_md="None: any", examples=REASONS, **TEXT),
        "file": Param(None, title="File", description_md="Its name, path or URL; `api`: what came by no file. None: any", **TEXT),
        "since": Param(None, title="Since", description_md="What Kafka has from that moment on. None: from the first", **MOMENT),
        "until": Param(None, title="Until", description_md="What Kafka had before that moment. None: to the last", **MOMENT),
        "dry_run": Param(False, title="Dry run", description_md="Only show the preview: nothing is done", type="boolean"),
        "hold": Param(True, title="Hold for approval", description_md="Show the preview and wait for a person", type="boolean"),
    }


PATCH = Param(
    None,
    title="Patch",
    description_md='Texts for fields, put in only where the field breaks its rule: `{"price": "0"}`. None: records go as they came',
    type=["null", "object"],
    additionalProperties={"type": "string"},
)
WHY = Param("", title="Why", description_md="For whoever finds these records later", type="string")

BOTH = {
    **policy.of("quarantine", permanent_errors=jobs.PERMANENT_ERRORS, retry_delay=timedelta(seconds=10)),
    "schedule": None,
    "max_active_runs": 1,
}
ASKED = {"task_id": jobs.APPROVE, "body": "{{ ti.xcom_pull('preview', key='words') }}", **policy.NO_EXECUTION_TIMEOUT}


REPLAY = """DAG `tidemark_replay_quarantine`: sends records of the quarantine again that are valid now, by the rules in force or with a
patch.

**When to run it.** When the rules have been mended, or when one field of many records is to get a value. It first shows how many records
there are, how many would be valid and what the others say, and waits for a person (see Required Actions). What is not valid stays; so
does a row that has another number of fields than its file's header, which no patch can mend. A record of a withdrawn ingestion is not
replayed: take the withdrawal back.

**If it fails.** Clear its task, or start another run with the same patch: what is sent twice counts once.
"""
DISCARD = """DAG `tidemark_discard_quarantine`: closes records of the quarantine about which nothing is to be done, and keeps the reason.
Nothing is sent.

**When to run it.** For what will never be valid: test rows, a file that was none. It first shows which records there are and waits for a
person (see Required Actions). Look whether some would be valid now: those are better replayed. The events stay in the raw history.

**If it fails.** Clear its task: what is discarded stays so.
"""


@task.branch(task_id="preview", pool=Pool.INGEST.id)
def look(step: str, params: dict, ti) -> str | None:
    with connected() as database:
        ahead = jobs.look_ahead(database, params, step)
    ti.xcom_push("words", ahead.words)
    ti.xcom_push("mark", ahead.preview["mark"])
    return ahead.step


@dag(dag_id=Dag.REPLAY_QUARANTINE.id, doc_md=REPLAY, params=parameters(patch=PATCH), **BOTH)
def replay_quarantine() -> None:
    @task(pool=Pool.INGEST.id, outlets=[policy.PRODUCTS], trigger_rule="none_failed_min_one_success")
    def send(params: dict, dag_run, ti) -> dict:
        kafka = KafkaProducerHook(Connection.KAFKA.id)
        configuration = kafka.get_connection(Connection.KAFKA.id).extra_dejson
        mark = ti.xcom_pull(task_ids="preview", key="mark")
        with connected() as database:
            return jobs.send(database, kafka.get_producer, configuration, params, mark, dag_run.run_id)._asdict()

    looked, approve, sent = look(jobs.SEND), ApprovalOperator(subject="Replay these records?", **ASKED), send()
    looked >> [approve, sent]
    approve >> sent
    add_dashboard_links(sent, Dashboard.PIPELINE)


@dag(dag_id=Dag.DISCARD_QUARANTINE.id, doc_md=DISCARD, params=parameters(why=WHY), **BOTH)
def discard_quarantine() -> None:
    @task(trigger_rule="none_failed_min_one_success")
    def discard(params: dict, dag_run, ti) -> int:
        mark = ti.xcom_pull(task_ids="preview", key="mark")
        with connected() as database:
            return jobs.discard(database, params, mark, dag_run.run_id)

    looked = look(jobs.DISCARD)
    approve, discarded = ApprovalOperator(subject="Discard these records?", **ASKED), discard()
    looked >> [approve, discarded]
    approve >> discarded


replay_quarantine()
discard_quarantine()
