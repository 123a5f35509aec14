"""DAG `tidemark_stream`: pauses or resumes the stream, or restarts it with the current code and rules.

**When to run it.**

- *Pause* before work on its servers. The stream first serves what the log holds (or stops at once), and stays paused, even if the machine
  restarts, until it is resumed. Nothing is lost: events wait in Kafka for as long as Kafka retains them.
- *Resume* to end a pause. If the stream is held because a micro-batch would add very many new cells to the reports, give their number to
  accept it; if a file is wrong, withdraw it instead (DAG `tidemark_withdraw`), and the stream goes on without it.
- *Restart* after deploying new code. The stream finishes its current micro-batch first.

A run ends when the stream has carried out the action.

**If it fails.** The stream does not respond, or nothing restarts it: see its log. Clear the task once that is fixed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from tidemark.dags import policy
from tidemark.dags.mongodb import connected
from tidemark.serving import control
from tidemark.settings import settings
from tidemark.settings.airflow_names import Dag, Pool

NAMES = settings().airflow_names
WAIT_SECONDS = 900

PARAMETERS = {
    "action": Param(
        "pause",
        title="Action",
        description_md="Pause the stream until it is resumed, resume it, or restart it",
        enum=["pause", "resume", "restart"],
        type="string",
    ),
    "reason": Param(None, title="Reason", description_md="Reason for a pause; shown while the stream is paused", type=["null", "string"]),
    "accept": Param(
        None,
        title="Accept new cells",
        description_md="With *resume*, if the stream is held: the number of new cells that its reason names",
        type=["null", "integer"],
        minimum=1,
    ),
    "drain": Param(
        True,
        title="Drain",
        description_md="Before a pause, serve what the log holds at that moment. Otherwise stop at once",
        type="boolean",
    ),
}


@dag(
    **policy.of("operations", permanent_errors=[control.NotDone, control.NotHeld], retry_delay=timedelta(seconds=10)),
    dag_id=NAMES.of(Dag.STREAM),
    schedule=None,
    max_active_runs=1,
    params=PARAMETERS,
    doc_md=__doc__,
)
def stream() -> None:
    @task
    def request(params: dict[str, Any], dag_run: Any) -> int:
        with connected(settings()) as database:
            by = dag_run.triggering_user_name or "Airflow"
            return control.request(database, params["action"], params["reason"] or "", by, drain=params["drain"], accept=params["accept"])

    @task(pool=NAMES.of(Pool.SERVED))
    def wait(generation: int, params: dict[str, Any]) -> None:
        with connected(settings()) as database:
            control.wait(database, params["action"], generation, WAIT_SECONDS)

    wait(request())


stream()
