"""What holds for every DAG: it can be read, says what it is, belongs to somebody, tries again, ends, and does nothing at import."""

from __future__ import annotations

import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.names import NAMES

from tidemark.dags import policy
from tidemark.local.prepare import POOLS
from tidemark.settings import CHECKOUT
from tidemark.settings.airflow_names import Dag
from tidemark.settings.sections import SupersetSettings

DAGS = CHECKOUT / "dags" / "tidemark" / "dags"
SHARED = {line for line in (DAGS / ".airflowignore").read_text().splitlines() if not line.startswith("#")}
FILES = sorted({path.name for path in DAGS.glob("*.py")} - SHARED)

# Tasks that wait for a person.
APPROVAL_OPERATORS = {"ApprovalOperator", "HITLEntryOperator", "HITLOperator", "HITLBranchOperator"}


def test_every_dag_can_be_loaded(dag_bag: Any) -> None:
    assert dag_bag.import_errors == {}
    assert {Path(dag.fileloc).name for dag in dag_bag.dags.values()} == set(FILES)


def test_every_dag_is_documented(dag_bag: Any) -> None:
    for dag in dag_bag.dags.values():
        assert "tidemark" in dag.tags, dag.dag_id
        what, *paragraphs = (dag.doc_md or "").split("\n\n")
        assert what.startswith(f"DAG `{dag.dag_id}`: "), dag.dag_id
        for question in (policy.WHEN, policy.ON_FAILURE):
            assert [one for one in paragraphs if one.startswith(question)], f"{dag.dag_id}: {question}"


def test_every_task_has_an_owner_and_retries(dag_bag: Any) -> None:
    for dag in dag_bag.dags.values():
        for task in dag.tasks:
            where = f"{dag.dag_id}.{task.task_id}"
            assert task.owner == "tidemark", where
            assert task.retries >= 1, where
            assert task.retry_delay.total_seconds() <= 300, where
            assert task.retry_policy is not None, where
            assert task.pool in {*(NAMES.of(pool) for pool in POOLS), "default_pool"}, where


def test_every_run_and_task_has_a_timeout(dag_bag: Any) -> None:
    """But who waits for a person waits as long as the run does, for days, and whoever else waits gives up before its task is ended."""
    for dag in dag_bag.dags.values():
        assert timedelta(days=2) < dag.dagrun_timeout <= policy.RUN_TIMEOUT, dag.dag_id
        for task in dag.tasks:
            where = f"{dag.dag_id}.{task.task_id}"
            if task.task_type in APPROVAL_OPERATORS:
                assert (task.execution_timeout, task.response_timeout) == (None, None), where
            else:
                assert timedelta() < task.execution_timeout <= policy.TASK_TIMEOUT, where
            if task.task_type.endswith("Sensor"):
                assert task.timeout < task.execution_timeout.total_seconds(), where


def test_dags_refer_to_the_same_assets(dag_bag: Any) -> None:
    assets = {asset.name: asset.uri for dag in dag_bag.dags.values() for task in dag.tasks for asset in (*task.outlets, *task.inlets)}
    assert assets == {asset.name: asset.uri for asset in (policy.PRODUCTS, policy.REPORTS)}


def test_every_parameter_can_be_edited_in_the_form(dag_bag: Any) -> None:
    for dag in dag_bag.dags.values():
        for name in dag.params:
            parameter = dag.params.get_param(name)
            assert parameter.schema.get("title"), f"{dag.dag_id}: {name}"
            assert parameter.schema.get("description_md") or parameter.description, f"{dag.dag_id}: {name}"
            assert parameter.schema.get("type"), f"{dag.dag_id}: {name}"
            # Airflow's form cannot be sent while a text that may not be null is empty.
            assert parameter.value != "" or f"{dag.dag_id}.{name}" == f"{NAMES.of(Dag.DISCARD_QUARANTINE)}.why", f"{dag.dag_id}: {name}"


@pytest.mark.parametrize("file", FILES)
def test_importing_a_dag_has_no_side_effects(dag_bag: Any, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything it needs has been imported by the DagBag; reading it again opens no connection and takes no time."""
    from airflow.dag_processing.dagbag import DagBag

    opened: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _self, address: opened.append(address))
    monkeypatch.setattr(socket.socket, "connect_ex", lambda _self, address: opened.append(address))
    started = time.process_time()
    again = DagBag(str(CHECKOUT / "dags" / "tidemark" / "dags" / file))
    assert again.import_errors == {}
    assert opened == []
    assert time.process_time() - started < 2


def test_links_lead_to_existing_dashboards(dag_bag: Any) -> None:
    """Read as Airflow's pages read them, from the serialized DAG; the address is that of the task."""
    from airflow.serialization.serialized_objects import DagSerialization

    slugs = {yaml.safe_load(file.read_text())["slug"] for file in (CHECKOUT / "superset" / "assets" / "dashboards").glob("*.yaml")}
    linked = {}
    for dag in dag_bag.dags.values():
        read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        for task in dag.tasks:
            links = [link for link in task.operator_extra_links if link.name.startswith("Dashboard ")]
            assert {link.name for link in links} <= read.get_task(task.task_id).operator_extra_link_dict.keys()
            for link in links:
                address, _, slug = link.get_link(task, ti_key=None).rstrip("/").rpartition("/")
                assert address == f"{SupersetSettings().superset_url}/superset/dashboard"
                assert slug in slugs
            if links:
                linked[f"{dag.dag_id}.{task.task_id}"] = [link.name for link in links]
    assert linked[f"{NAMES.of(Dag.NIGHTLY_BATCH)}.verify"] == ["Dashboard Pipeline"]
    assert linked[f"{NAMES.of(Dag.INGEST)}.served"] == ["Dashboard Catalog"]
    with_links = (Dag.INGEST, Dag.NIGHTLY_BATCH, Dag.HISTORY, Dag.REBUILD, Dag.REPLAY_QUARANTINE, Dag.ADOPT)
    assert {name.partition(".")[0] for name in linked} == {NAMES.of(one) for one in with_links}
