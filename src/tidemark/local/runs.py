"""Runs of DAGs through Airflow's REST API, as a person would start them in the web interface."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx

from tidemark.local import loopback
from tidemark.local.accounts import airflow_passwords
from tidemark.settings.airflow_names import Dag
from tidemark.settings.sections import AirflowSettings

ATTEMPTS = 30  # a second apart
ENDED = frozenset({"success", "failed"})
WAITING = frozenset({"awaiting_input", "deferred"})  # states of a task that waits for a person


class RunRefused(Exception):
    """Airflow has refused the run."""


class Task(NamedTuple):
    name: str
    map_index: int
    state: str | None
    try_number: int


class Airflow:
    """A client of the local Airflow. Raises httpx.HTTPError if it does not answer, RunRefused if it refuses a run."""

    def __init__(self, of: AirflowSettings) -> None:
        self.address = of.airflow_api
        self._of = of
        self._http = loopback.client(f"{self.address}/api/v2", timeout=30)
        token = self._logged_in().raise_for_status().json()["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> Airflow:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def name(self, dag: Dag) -> str:
        """The DAG's name in this Airflow."""
        return self._of.airflow_names.of(dag)

    def has_dag(self, dag: Dag = Dag.INGEST) -> bool:
        """Has Airflow parsed the DAG?"""
        return self._http.get(f"/dags/{self.name(dag)}").status_code == httpx.codes.OK

    def import_errors(self) -> list[str]:
        return [f"{one['filename']}: {one['stack_trace'].strip().splitlines()[-1]}" for one in self._get("/importErrors")["import_errors"]]

    def trigger(self, conf: Mapping[str, Any], dag: Dag = Dag.INGEST) -> str:
        """Starts a run and returns its id. Refused for a paused DAG, whose runs never begin."""
        if self._get(f"/dags/{self.name(dag)}")["is_paused"]:
            raise RunRefused(f"DAG {self.name(dag)} is paused: unpause it at {self.address}/dags/{self.name(dag)}")
        identity = f"run-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        for attempt in range(ATTEMPTS):
            answer = self._http.post(
                f"/dags/{self.name(dag)}/dagRuns", json={"dag_run_id": identity, "logical_date": None, "conf": dict(conf)}
            )
            if answer.is_success or (attempt and answer.status_code == httpx.codes.CONFLICT):  # an earlier attempt has created it
                return identity
            if not answer.is_server_error:  # a busy SQLite may cause server errors
                break
            time.sleep(1)
        raise RunRefused(f"Airflow has refused the run: {answer.text[:1000]}")

    def state(self, run: str, dag: Dag = Dag.INGEST) -> str:
        return str(self._get(f"/dags/{self.name(dag)}/dagRuns/{run}")["state"])

    def tasks(self, run: str, dag: Dag = Dag.INGEST) -> list[Task]:
        found = self._get(f"/dags/{self.name(dag)}/dagRuns/{run}/taskInstances?limit=1000")["task_instances"]
        return [Task(one["task_id"], one["map_index"], one["state"], one["try_number"]) for one in found]

    def result(self, run: str, task: str, key: str, dag: Dag = Dag.INGEST) -> Any:
        """An XCom of a task."""
        return self._get(f"/dags/{self.name(dag)}/dagRuns/{run}/taskInstances/{task}/xcomEntries/{key}?deserialize=true")["value"]

    def failure(self, run: str, dag: Dag = Dag.INGEST) -> str:
        """The failed task, and the last error in its log."""
        for task in self.tasks(run, dag):
            if task.state == "failed":
                return f"task {task.name} failed: {self._last_error(run, task, dag)}"
        return "no task has failed"

    def page(self, run: str, dag: Dag = Dag.INGEST) -> str:
        return f"{self._of.airflow_pages}/dags/{self.name(dag)}/runs/{run}"

    def _logged_in(self) -> httpx.Response:
        ((name, password),) = airflow_passwords(self._of).items()
        return self._http.post(f"{self.address}/auth/token", json={"username": name, "password": password})

    def _last_error(self, run: str, task: Task, dag: Dag) -> str:
        path = f"/dags/{self.name(dag)}/dagRuns/{run}/taskInstances/{task.name}/logs/{max(task.try_number, 1)}?map_index={task.map_index}"
        answer = self._http.get(path, headers={"Accept": "application/json"})
        if answer.is_error:
            return "its log cannot be read"
        for entry in reversed(answer.json().get("content", [])):
            if not isinstance(entry, dict):
                continue
            for detail in entry.get("error_detail") or ():
                return f"{detail.get('exc_type')}: {detail.get('exc_value')}"
            if entry.get("level") == "error" and entry.get("event") != "Task failed with exception":
                return str(entry.get("event"))
        return "its log has no error"

    def _get(self, path: str) -> Any:
        return self._http.get(path).raise_for_status().json()
