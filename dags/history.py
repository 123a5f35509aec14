"""DAG `history`: the cube of everything observed before the end of each day, recomputed from the raw history. `report_history` shows it.

- *Every day* at 03:00 UTC, when it has ended: the day, and every day before it on which something was observed that has landed since
  then, or that this has changed. Nights that were missed are made up for; a gap of more than a month without observations stays one.
- *A range of days*: a backfill. Each run computes its own day; in any order, again, several at once. Days before anything was observed
  are empty, a day that has not ended is refused.
- *A long range in one pass*: a run by hand with its first and last day.

Each task can be retried or cleared on its own. What an older landing has made never replaces what a newer one has.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronPartitionTimetable, ExceptionRetryPolicy, Param, RetryAction, RetryRule, dag, task

from serving import history as days
from spark import job

DAY = {"type": ["null", "string"], "format": "date"}
PARAMETERS = {
    "first_day": Param(None, title="First day", description_md="Of a range to be computed in one pass. None: the run's own day", **DAY),
    "last_day": Param(None, title="Last day", description_md="Included. None: the first day", **DAY),
    "changed": Param(
        False,
        title="What has changed",
        description_md="The last of these days, and every day before it that something landed since has changed. So it is every night",
        type="boolean",
    ),
}

FAIL_AT_ONCE = RetryRule([job.JobFailedForGood, days.NotOver, days.NoDay], RetryAction.FAIL, reason="another attempt would end the same")


@dag(
    dag_id="history",
    schedule=CronPartitionTimetable("0 3 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"),
    # No start_date: with one, a new installation would begin with yesterday's run, beside its first files.
    catchup=False,
    max_active_runs=32,  # the pool says how much is done at once
    params=PARAMETERS,
    default_args={
        "owner": "tidemark",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_policy": ExceptionRetryPolicy([FAIL_AT_ONCE]),
    },
    tags=["tidemark", "batch"],
    doc_md=__doc__,
)
def history() -> None:
    @task
    def ask(params: dict, dag_run) -> list[str]:
        changed = params["changed"] or dag_run.run_type == "scheduled"
        return days.asked(dag_run.partition_key, params["first_day"], params["last_day"], dag_run.start_date, changed=changed)

    @task(pool="spark")
    def land() -> None:
        job.run("land")

    @task(pool="spark")
    def compute(asked: list[str]) -> dict:
        return job.run("history", *asked)

    asked = ask()
    asked >> land() >> compute(asked)


history()
