"""DAG `tidemark_stream`: pauses the stream, lets it go on, or starts it anew with the code and the rules in force.

**When to run it.**

- *Pause* before work on its servers: it serves first what the log holds (or stops at once), and stays stopped, also over restarts of the
  machine, until it is resumed. Nothing is lost: events wait in Kafka, for as long as that keeps them.
- *Restart* after new code has been brought to its machine. What it had in hand is served.

Each run ends when the stream has done so.

**If it fails.** The stream does not answer, or nobody keeps it up: its log says why. Clear the task when that is mended.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag, task

from tidemark.dags import policy
from tidemark.dags.mongodb import connected
from tidemark.serving import control
from tidemark.settings.airflow_names import Dag, Pool

PATIENCE_SECONDS = 900

PARAMETERS = {
    "action": Param(
        "pause",
        title="What it is to do",
        description_md="Pause it until it is resumed, or start it anew",
        enum=["pause", "resume", "restart"],
        type="string",
    ),
    "reason": Param(None, title="Reason", description_md="Of a pause, for whoever finds it", type=["null", "string"]),
    "drain": Param(
        True,
        title="Serve first what is there",
        description_md="Of a pause: what the log holds by then. Else it stops at once",
        type="boolean",
    ),
}


@dag(
    **policy.of("operations", permanent_errors=[control.NotDone], retry_delay=timedelta(seconds=10)),
    dag_id=Dag.STREAM.id,
    schedule=None,
    max_active_runs=1,
    params=PARAMETERS,
    doc_md=__doc__,
)
def stream() -> None:
    @task
    def tell(params: dict, dag_run) -> int:
        with connected() as database:
            by = dag_run.triggering_user_name or "Airflow"
            return control.tell(database, params["action"], params["reason"] or "", by, drain=params["drain"])

    @task(pool=Pool.SERVED.id)
    def wait(generation: int, params: dict) -> None:
        with connected() as database:
            control.wait(database, params["action"], generation, PATIENCE_SECONDS)

    wait(tell())


stream()
