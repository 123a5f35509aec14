"""DAG `tidemark_maintenance`: a run on real servers, and what of Airflow's own is deleted and what stays."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support import airflow_home
from support.load import updates
from support.names import NAMES
from support.places import Place
from support.wording import Wording

from tidemark import housekeeping
from tidemark.dags import batch_job
from tidemark.serving import schema
from tidemark.settings.airflow_names import Dag, Pool

NOW = datetime(2024, 3, 10, 5, tzinfo=UTC)


def written(path: Path, days_ago: float) -> Path:
    """A file or folder, last written that long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_dir():
        path.write_text("")
    os.utime(path, (moment := (NOW - timedelta(days=days_ago)).timestamp(), moment))
    return path


def test_old_files_are_deleted_and_recent_folders_kept(tmp_path: Path) -> None:
    old, new = written(tmp_path / "dag_id=a" / "old" / "1.log", 8), written(tmp_path / "dag_id=a" / "new" / "1.log", 6)
    (tmp_path / "dag_id=b" / "just made").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "dag_id=a")
    os.utime(tmp_path / "link", (0, 0), follow_symlinks=False)
    written(old.parent, 8)
    written(new.parent, 8)
    assert housekeeping.delete_old(tmp_path, NOW - timedelta(days=7)) == 2
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {
        *("dag_id=a", "dag_id=a/old", "dag_id=a/new", "dag_id=a/new/1.log", "dag_id=b", "dag_id=b/just made"),
    }
    assert housekeeping.delete_old(tmp_path / "nowhere", NOW) == 0


def test_a_missing_airflow_database_is_detected(tmp_path: Path) -> None:
    (tmp_path / "airflow.db").touch()
    assert housekeeping.is_reachable(f"sqlite:///{tmp_path}/airflow.db?timeout=60")
    assert not housekeeping.is_reachable(f"sqlite:///{tmp_path}/none.db")
    assert housekeeping.is_reachable("postgresql://airflow@database/airflow")


def test_it_runs_every_week_one_run_at_a_time(dag_bag: Any) -> None:
    dag = dag_bag.dags[NAMES.of(Dag.MAINTENANCE)]
    assert (type(dag.timetable).__name__, dag.max_active_runs) == ("CronTriggerTimetable", 1)
    assert {task.task_id for task in dag.tasks if task.pool == NAMES.of(Pool.SPARK)} == {"raw_history"}
    assert {task.task_id for task in dag.tasks if task.upstream_task_ids} == {"measure"}, "one that fails keeps no other from its work"


def test_which_errors_are_retried(dag_bag: Any) -> None:
    from airflow.sdk import RetryAction

    policy = dag_bag.dags[NAMES.of(Dag.MAINTENANCE)].get_task("collections").retry_policy
    permanent_errors = (batch_job.JobFailedPermanently("no"), schema.SchemaDiffers("view report_cube differs"))
    assert {policy.evaluate(error, 1, 3).action for error in permanent_errors} == {RetryAction.FAIL}
    assert policy.evaluate(housekeeping.NotCleaned("the database is locked"), 1, 3).action == RetryAction.DEFAULT


@pytest.mark.airflow
@pytest.mark.servers
@pytest.mark.soak(proof="nights")
@pytest.mark.usefixtures("database")
def test_a_run_deletes_only_what_has_expired(connected: Place, tmp_path: Path, wording: Wording) -> None:
    connected.send(updates(Random(141), 60, keys=10))
    batch_job.run(connected.settings, "land")
    old = connected.settings.jobs / "killed" / "result"
    old.parent.mkdir(parents=True)
    old.touch()
    os.utime(old, (0, 0))
    state, tasks = airflow_home.run(NAMES.of(Dag.MAINTENANCE), "maintenance.py")
    assert (state, {name: state for name, (state, _) in tasks.items()}) == (
        "success",
        {
            **dict.fromkeys(("raw_history", "measure", "collections", "leftovers"), "success"),
            **dict.fromkeys(("records", "logs"), "skipped"),  # other teams' DAGs may run in this Airflow
        },
    )
    assert not old.exists()
    found = {one["part"]: one["items"] for one in connected.database.report_size.find()}
    assert found["collection state"] == connected.database.state.count_documents({}) > 0
    assert found["lake: events"] == 1
    assert connected.wrong() == []

    file = tmp_path / "airflow.db"
    with closing(sqlite3.connect(airflow_home.database_file())) as original, closing(sqlite3.connect(file)) as database, database:
        original.backup(database)  # its file alone lacks what has been written last
        database.execute("UPDATE dag_run SET start_date = '2024-03-01 05:00:00', logical_date = NULL")

    def remaining_runs(days: int) -> list[int]:
        housekeeping.clean_records(f"sqlite:///{file}", NOW - timedelta(days=days))
        with closing(sqlite3.connect(file)) as database:
            return [database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("dag_run", "task_instance")]

    assert min(remaining_runs(days=30)) > 0
    assert remaining_runs(days=5) == [0, 0]
    file.write_text("no database")
    with pytest.raises(housekeeping.NotCleaned) as failed:
        remaining_runs(days=5)
    message, _, of_airflow = str(failed.value).partition(": ")
    wording.check(message)
    assert of_airflow
