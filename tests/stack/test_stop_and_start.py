"""The stack is stopped and started: nothing runs on, and everything is found again."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.stacks import Stack

from tidemark.local import processes
from tidemark.local.processes import marks

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.timeout(1800)]


def test_stop_leaves_nothing_running_and_start_restores_everything(stack: Stack) -> None:
    before, ends = stack.served_reports(), stack.log_ends()
    assert "stopped" in stack.local("stop")
    assert processes.marked(marks(stack.home)) == []
    assert stack.local("status", status=1).strip() == "The stack is not running: start it with make run"
    assert "nothing was running" in stack.local("stop")
    stack.local("start")
    assert stack.served_reports() == before
    assert stack.log_ends() == ends
    assert stack.wrong() == []
    kept = (stack.home / "logs" / "speed.log").read_text()
    assert "has stopped at" in kept, "the stream was killed, not stopped"
    assert Path(stack.settings["home"]).is_dir()
