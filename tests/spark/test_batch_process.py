"""A process that runs several commands of the batch layer: when it is used, when another one is, and when it ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from support.broker import wait_for
from support.environment import setting
from support.load import updates
from support.places import Place

from tidemark.dags import batch_job
from tidemark.local import processes
from tidemark.settings import Settings
from tidemark.spark import batch_calls

pytestmark = pytest.mark.servers


@pytest.fixture
def mark(place: Place, tmp_path: Path) -> Iterator[dict[str, str]]:
    """In the environment of this test's batch processes, which wait for a minute."""
    with setting(home=str(tmp_path), batch_idle_seconds="60", test_job=str(tmp_path)):
        found = {"TIDEMARK_TEST_JOB": str(tmp_path)}
        yield found
        processes.end(found)


def run(*words: str) -> object:
    return batch_job.run(Settings(), *words)


def batch_processes(mark: dict[str, str]) -> set[int]:
    """Those of Python, by id; the JVMs and workers of Spark are not among them."""
    return {one for one in processes.marked(mark) if b"batch_process" in Path(f"/proc/{one}/cmdline").read_bytes()}


def test_one_process_and_one_spark_run_several_commands(place: Place, mark: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    place.send(updates(Random(5), 20, keys=5))
    run("land")
    there = set(processes.marked(mark))
    landed = [line for line in caplog.messages if "landed" in line]
    caplog.clear()
    place.send(updates(Random(6), 20, keys=5))
    run("land")
    assert [line for line in caplog.messages if "landed" in line] != landed, "each caller has the output of its own command"
    assert not any(line in caplog.messages for line in landed)
    with pytest.raises(batch_job.JobFailedPermanently, match=r"^cut: no stream has ever started"):
        run("cut")
    assert str(run("publications")).split()[:2] == ["0", "served"]
    assert batch_processes(mark) == batch_processes(mark) & there
    assert len(batch_processes(mark)) == 1
    assert set(processes.marked(mark)) <= there


def test_other_settings_have_another_process(mark: dict[str, str]) -> None:
    run("publications")
    with setting(keep_publications="3"):
        run("publications")
    run("publications")
    assert len(batch_processes(mark)) == 2


def test_a_process_at_work_is_not_waited_for(mark: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has a process of its own then."""
    run("publications")
    monkeypatch.setattr(batch_calls, "GREETING_SECONDS", 0.5)
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(f"\0{batch_calls.name_of(Settings())}")
        assert other.recv(1), "it waits for the command of this caller"
        assert str(run("publications")).split()[:2] == ["0", "served"]
    monkeypatch.undo()
    run("publications")
    assert len(batch_processes(mark)) == 1, "who hangs up before a command ends nothing"


def test_a_process_ends_after_a_failure_that_may_lie_in_it(mark: dict[str, str]) -> None:
    with setting(mongodb_url="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"):
        with pytest.raises(batch_job.JobFailed, match="nothing is lost: run it again"):
            run("cut")
        wait_for(lambda: not batch_processes(mark), 60)


def test_a_process_ends_when_nobody_calls(mark: dict[str, str], tmp_path: Path) -> None:
    with setting(batch_idle_seconds="0.1"):
        run("publications")
        wait_for(lambda: not batch_processes(mark), 60)
    assert list((tmp_path / "jobs").iterdir()) == [], "its output is with the callers"


def test_a_process_that_does_not_start_is_replaced_by_one_for_the_command(
    mark: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "jobs").mkdir()
    monkeypatch.setattr(batch_calls, "name_of", lambda *_: "x" * 200)  # longer than a socket's name may be
    assert str(run("publications")).split()[:2] == ["0", "served"]
