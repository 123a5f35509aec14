"""DAG `tidemark_withdraw`: takes an ingestion back, the wrong file or a file with the wrong date, or takes such a withdrawal back.

**When to run it.** Trigger it with an ingestion's id, or without: then the run lists them and waits for a person to choose. It tells what
the reports will become and waits for approval. Then both layers reject the ingestion's events (reason `withdrawn`), a nightly run makes
the reports anew without them, and the days of the history are computed again. Nothing is deleted, so that it can be taken back at any
time. Ingest the right file before or after, as you like.

**If it fails.** Each task can be cleared and goes on where it was. Where it fails after `decide`, clear the failed task when its cause is
gone; until the nightly run has succeeded the reports still hold what was withdrawn.
"""

from __future__ import annotations

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, dag, task

from tidemark.dags import policy
from tidemark.dags.choices import NotChosen, chosen
from tidemark.dags.mongodb import connected
from tidemark.serving import control, withdrawals
from tidemark.settings.airflow_names import Dag, Pool
from tidemark.spark import job

PATIENCE_SECONDS = 900

INGESTION = {
    "type": ["null", "string"],
    "minLength": 1,
    "title": "Ingestion",
    "description_md": "Its id. None: the run lists them and asks",
}
PARAMETERS = {
    "ingestion": Param(None, **INGESTION),
    "take_back": Param(False, title="Take the withdrawal back", description_md="The ingestion counts again", type="boolean"),
    "reason": Param(None, title="Reason", description_md="For whoever tells the same file again", type=["null", "string"]),
    "hold": Param(
        True, title="Hold for approval", description_md="Show first what the reports become, and wait for a person", type="boolean"
    ),
}

# It goes on when the run it has triggered has ended; meanwhile it takes no worker.
TO_ITS_END = {"wait_for_completion": True, "deferrable": True, "poke_interval": 5, "logical_date": None}


@dag(
    **policy.of("operations", permanent_errors=[job.JobFailedPermanently, control.NotDone, withdrawals.NoIngestion, NotChosen]),
    dag_id=Dag.WITHDRAW.id,
    schedule=None,
    max_active_runs=1,
    params=PARAMETERS,
    doc_md=__doc__,
)
def withdraw() -> None:
    @task
    def ingestions() -> str:
        with connected() as database:
            return withdrawals.listing(database)

    @task(pool=Pool.SPARK.id)
    def impact(ingestion: str, params: dict) -> str:
        return job.run("impact", ingestion, *(["--take-back"] if params["take_back"] else []))

    @task.branch
    def held(params: dict) -> str:
        return "approve" if params["hold"] else "decide"

    approve = ApprovalOperator(
        task_id="approve",
        subject="Are the reports to become this?",
        body="{{ 'Taken back:' if params.take_back else 'Withdrawn:' }} {{ ti.xcom_pull(task_ids='chosen') }}\n\n"
        "{{ ti.xcom_pull(task_ids='impact') }}",
        **policy.NO_EXECUTION_TIMEOUT,
    )

    @task(trigger_rule="none_failed_min_one_success")
    def decide(ingestion: str, params: dict, dag_run) -> None:
        with connected() as database:
            by = dag_run.triggering_user_name or "Airflow"
            withdrawals.decide(database, ingestion, by, params["reason"] or "", take_back=params["take_back"])

    @task(pool=Pool.SERVED.id)
    def obeyed() -> None:
        with connected() as database:
            withdrawals.await_obeyed(database, PATIENCE_SECONDS)

    # Whoever has approved has seen the figures.
    agreed = {"on_drift": "correct", "hold": False}
    nightly = TriggerDagRunOperator(task_id="nightly", trigger_dag_id=Dag.NIGHTLY_BATCH.id, conf=agreed, **TO_ITS_END)
    yesterday = "{{ (dag_run.start_date - macros.timedelta(days=1)) | ds }}"
    days = TriggerDagRunOperator(
        task_id="history", trigger_dag_id=Dag.HISTORY.id, conf={"last_day": yesterday, "changed": True}, **TO_ITS_END
    )
    one = chosen("ingestion", ingestions(), "Which ingestion is it?", **INGESTION)
    looked, decided = held(), decide(one)
    impact(one) >> looked >> [approve, decided]
    approve >> decided >> obeyed() >> nightly >> days


withdraw()
