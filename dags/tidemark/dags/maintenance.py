"""DAG `tidemark_maintenance`: limits the growth of stored data, measures sizes, and checks that the schema matches the code.

It compacts the small files of the raw history and deletes files that are no longer needed; no event is deleted. It also deletes drafts,
publications beyond the number to keep, verifications, days of the history and raw bytes of settled quarantine records that are older than
the settings allow, Airflow's records and logs of runs older than the settings allow, and files left behind by killed
processes and rejected previews.

**When to run it.** *Every week*, on Sundays at 05:00 UTC. Trigger it at any time: after a large backfill, or to measure the sizes (task
`measure`).

**If it fails.** Reports and history do not depend on it. The tasks are independent of each other: the last line of a task's log says what
to do; then clear the task. Task `collections` fails if collections, indexes or views differ from the code. Tasks `records` and `logs` clean
up after all DAGs of this Airflow. They are skipped unless `TIDEMARK_CLEAN_AIRFLOW` is true; leave it unset where other DAGs run too.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from tidemark import housekeeping
from tidemark.dags import batch_job, policy
from tidemark.dags.mongodb import connected
from tidemark.serving import schema, sizes
from tidemark.settings import settings
from tidemark.settings.airflow_names import Dag, Pool
from tidemark.settings.sections import AirflowSettings

NAMES = settings().airflow_names


def require_ours(of: AirflowSettings) -> None:
    if not of.clean_airflow:
        raise AirflowSkipException("this would clean up after all DAGs of this Airflow: allow it with TIDEMARK_CLEAN_AIRFLOW=true")


@dag(
    **policy.of("operations", permanent_errors=[batch_job.JobFailedPermanently, schema.SchemaDiffers]),
    dag_id=NAMES.of(Dag.MAINTENANCE),
    schedule=CronTriggerTimetable("0 5 * * 0", timezone="UTC"),
    max_active_runs=1,
    doc_md=__doc__,
)
def maintenance() -> None:
    @task(pool=NAMES.of(Pool.SPARK))
    def raw_history() -> dict[str, Any]:
        lake: dict[str, Any] = batch_job.run(settings(), "maintain")
        return lake

    @task
    def measure(lake: dict[str, Any], dag_run: Any) -> list[str]:
        of = settings()
        with connected(of) as database:
            found = {part: sizes.Size(*size) for part, size in lake.items()}
            return sizes.measure(database, dag_run.start_date, of.home, found)

    @task
    def collections() -> None:
        with connected(settings()) as database:
            schema.require(database)

    @task
    def records(dag_run: Any) -> None:
        of = settings()
        require_ours(of)
        if not housekeeping.is_reachable(of.airflow_database):
            raise AirflowSkipException("Airflow's database is unknown: set TIDEMARK_AIRFLOW_DATABASE_URL, or run `airflow db clean`")
        housekeeping.clean_records(of.airflow_database, dag_run.start_date - timedelta(days=of.keep_runs_days))

    @task
    def logs(dag_run: Any) -> int:
        of = settings()
        require_ours(of)
        before = dag_run.start_date - timedelta(days=of.keep_runs_days)
        return housekeeping.delete_old(of.home / "airflow" / "logs", before)

    @task
    def leftovers(dag_run: Any) -> int:
        before = dag_run.start_date - policy.RUN_TIMEOUT  # no run is older than that
        of = settings()
        return sum(housekeeping.delete_old(folder, before) for folder in (of.work, of.jobs))

    measure(raw_history())
    collections()
    records()
    logs()
    leftovers()


maintenance()
