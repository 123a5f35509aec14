"""What outlived its parent is found by its marks and ended, and nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tidemark.local import processes
from tidemark.local.health import Health, end_unhealthy
from tidemark.local.processes import Process

IGNORES_SIGTERM = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {IGNORES_SIGTERM!r}]); time.sleep(600)"


@contextmanager
def python(program: str, marks: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", program], env={**os.environ, **marks}, stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"ready\n"
            yield running
        finally:
            running.kill()


@pytest.fixture
def marks() -> dict[str, str]:
    return {"TIDEMARK_TEST_STACK": uuid4().hex, "TIDEMARK_TEST_PROGRAM": "one"}


def test_marked_processes_are_found(marks: dict[str, str]) -> None:
    with python(IGNORES_SIGTERM, marks) as one, python(IGNORES_SIGTERM, {**marks, "TIDEMARK_TEST_PROGRAM": "two"}) as two:
        assert processes.marked(marks) == [one.pid]
        assert processes.marked({"TIDEMARK_TEST_STACK": marks["TIDEMARK_TEST_STACK"]}) == sorted([one.pid, two.pid])
        assert processes.marked({**marks, "TIDEMARK_TEST_STACK": "another"}) == []


def test_only_leftovers_are_ended_even_if_they_ignore_signals(marks: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    with python(IGNORES_SIGTERM, marks) as stubborn, python(IGNORES_SIGTERM, {**marks, "TIDEMARK_TEST_STACK": "another"}) as other:
        assert processes.end(marks)
        assert stubborn.wait(10) == -9
        assert other.poll() is None
        assert not processes.end(marks)


def test_an_orphaned_child_is_ended(marks: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    with python(PARENT, marks) as parent:
        (child,) = {*processes.marked(marks)} - {parent.pid}
        parent.kill()
        parent.wait()
        assert processes.marked(marks) == [child]
        assert processes.end(marks)
        processes.wait_for_end([child], 10)
        assert not processes.alive(child)


def test_a_zombie_process_is_not_alive(marks: dict[str, str]) -> None:
    with python(IGNORES_SIGTERM, marks) as one:
        one.kill()
        processes.wait_for_end([one.pid], 10)
        assert not processes.alive(one.pid)
        assert processes.marked(marks) == []


def test_airflow_workers_without_a_readable_environment_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only Airflow's, only of the session or group that is meant, with what they have started."""
    there = [
        Process(10, 1, 10, 5, None, b"airflow worker -- LocalExecutor"),
        Process(11, 10, 11, 5, None, b"airflow worker -- task"),
        Process(12, 1, 12, 6, None, b"airflow worker of another stack"),
        Process(13, 1, 10, 5, None, b"ssh-agent"),
        Process(14, 1, 14, 5, frozenset({b"A=another"}), b"airflow scheduler"),
        Process(15, 1, 15, 7, frozenset({b"A=mine", b"B=x"}), b"python"),
    ]
    monkeypatch.setattr(processes, "_processes", lambda: iter(there))
    assert processes.marked({"A": "mine"}) == [15]
    assert processes.marked({"A": "mine"}, session=5) == [10, 11, 15]
    assert processes.marked({"A": "mine"}, group=10) == [10, 11, 15]


def test_a_program_that_stays_unhealthy_is_ended(tmp_path: Path) -> None:
    well, ill = Health(True, "url"), Health(False, "url")
    with (
        python(IGNORES_SIGTERM, processes.marks(tmp_path)) as running,
        python(IGNORES_SIGTERM, processes.marks(tmp_path / "other")) as other,
    ):
        assert not end_unhealthy(ill, tmp_path, 600)
        assert not end_unhealthy(well, tmp_path, 0)
        assert not end_unhealthy(ill, tmp_path, 600), "it begins again"
        assert running.poll() is None
        assert end_unhealthy(ill, tmp_path, 0)
        assert running.wait(10) == -9
        assert other.poll() is None
        assert not end_unhealthy(ill, tmp_path, 600), "the next program has its own time"
