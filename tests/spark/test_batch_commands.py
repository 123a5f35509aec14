"""The batch layer's commands as people and DAGs run them: what they say last, how they end, and what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from support.broker import wait_for
from support.environment import setting
from support.load import updates
from support.places import Place
from support.wording import Wording

from tidemark.catalog.rules import RULES
from tidemark.dags import batch_job
from tidemark.local import processes
from tidemark.serving import ledger, publications
from tidemark.spark import batch

pytestmark = pytest.mark.servers


def last_line(caplog: pytest.LogCaptureFixture) -> str:
    return caplog.records[-1].getMessage()


def test_permanent_and_transient_errors_have_different_exit_statuses(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, wording: Wording
) -> None:
    with setting(database="not_prepared"):
        assert batch.main(["cut"]) == batch_job.FAILED_PERMANENTLY
    wording.check(last_line(caplog), "not prepared")
    assert batch.main(["cut"]) == batch_job.FAILED_PERMANENTLY
    wording.check(last_line(caplog), "no stream")
    assert batch.main(["publish", "9"]) == batch_job.FAILED_PERMANENTLY
    wording.check(last_line(caplog), "no publication")
    ledger.start_generation(place.database, RULES.fingerprint(), {})
    assert batch.main(["cut"]) == 0
    assert batch.main(["publish", "1"]) == batch_job.FAILED_PERMANENTLY
    wording.check(last_line(caplog), "not verified")
    monkeypatch.setattr(publications, "cut", lambda *_, **__: 1 / 0)
    assert batch.main(["cut"]) == batch.FAILED
    wording.check(last_line(caplog), "may pass")


def test_only_one_command_runs_at_a_time(place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "BATCH_SECONDS", 0.5)
    with batch.lease(place.database, batch.BATCH, "another run", 0):
        assert batch.main(["cut"]) == batch.FAILED
    assert last_line(caplog).startswith("cut: another run ")


def test_a_job_returns_the_result_and_last_line_of_its_process(place: Place, caplog: pytest.LogCaptureFixture, wording: Wording) -> None:
    assert batch_job.run(place.settings, "publications").split()[:2] == ["0", "served"]
    with pytest.raises(batch_job.JobFailedPermanently) as refused:
        batch_job.run(place.settings, "cut")
    wording.check(str(refused.value), "failed for good")
    ledger.start_generation(place.database, RULES.fingerprint(), {})
    caplog.set_level("INFO")
    caplog.clear()  # it may have caught some already: Airflow, once imported, changes how this process logs
    assert batch_job.run(place.settings, "cut") == 1
    (line,) = [line for line in caplog.messages if "is cut at" in line]
    wording.check(line.partition(" INFO ")[2], "a line of its log")
    with setting(mongodb_url="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"), pytest.raises(batch_job.JobFailed) as failed:
        batch_job.run(place.settings, "cut")
    assert str(failed.value).startswith("cut: ")
    assert "127.0.0.1" in str(failed.value)


@pytest.mark.parametrize("idle_seconds", ["0", "60"])
def test_a_job_ends_when_its_parent_is_killed(place: Place, tmp_path: Path, idle_seconds: str) -> None:
    """kill -9, which nobody can answer: neither Python nor its JVM goes on."""
    place.send(updates(Random(111), 10, keys=5))
    mark = {"TIDEMARK_TEST_JOB": str(tmp_path), "TIDEMARK_BATCH_IDLE_SECONDS": idle_seconds}
    code = "from tidemark.dags import batch_job; from tidemark.settings import settings; batch_job.run(settings(), 'land')"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, **mark}
    parent = subprocess.Popen(command, env=environment, start_new_session=True)
    wait_for(lambda: len(processes.marked(mark)) >= 3, 90)  # itself, the job, its JVM
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    started = time.monotonic()
    wait_for(lambda: not processes.marked(mark), 60)
    assert time.monotonic() - started < 30
    assert (place.database.state.find_one({"_id": "ledger"}) or {})["rebuilding"] is None


def test_results_are_json(place: Place, tmp_path: Path) -> None:
    ledger.start_generation(place.database, RULES.fingerprint(), {})
    file = tmp_path / "result"
    assert batch.main(["--result", str(file), "cut"]) == 0
    assert json.loads(file.read_text()) == 1
