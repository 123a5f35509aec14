"""What holds for every DAG: it can be read, says what it is, belongs to somebody, tries again, and does nothing at import."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from local.prepare import POOLS
from settings import CHECKOUT

FILES = sorted(path.name for path in (CHECKOUT / "dags").glob("*.py"))


def test_every_dag_can_be_read(bag: Any) -> None:
    assert bag.import_errors == {}
    assert {Path(dag.fileloc).name for dag in bag.dags.values()} == set(FILES)


def test_every_dag_says_what_it_is(bag: Any) -> None:
    for dag in bag.dags.values():
        assert "tidemark" in dag.tags, dag.dag_id
        assert len(dag.doc_md or "") > 50, dag.dag_id


def test_every_task_belongs_to_somebody_and_is_tried_again(bag: Any) -> None:
    for dag in bag.dags.values():
        for task in dag.tasks:
            where = f"{dag.dag_id}.{task.task_id}"
            assert task.owner == "tidemark", where
            assert task.retries >= 1, where
            assert task.retry_delay.total_seconds() <= 300, where
            assert task.pool in {*POOLS, "default_pool"}, where


def test_every_parameter_can_be_filled_in_by_a_person(bag: Any) -> None:
    for dag in bag.dags.values():
        for name in dag.params:
            parameter = dag.params.get_param(name)
            assert parameter.schema.get("title"), f"{dag.dag_id}: {name}"
            assert parameter.schema.get("description_md") or parameter.description, f"{dag.dag_id}: {name}"
            assert parameter.schema.get("type"), f"{dag.dag_id}: {name}"


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_done_at_import(bag: Any, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything it needs has been imported by the bag; reading it again opens no connection and takes no time."""
    from airflow.dag_processing.dagbag import DagBag

    opened: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _self, address: opened.append(address))
    monkeypatch.setattr(socket.socket, "connect_ex", lambda _self, address: opened.append(address))
    started = time.process_time()
    again = DagBag(str(CHECKOUT / "dags" / file))
    assert again.import_errors == {}
    assert opened == []
    assert time.process_time() - started < 2
