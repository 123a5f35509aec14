"""Runs a command of the batch layer as a process of its own, which dies with whoever runs it. Knows nothing of Spark itself."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tidemark.settings import settings

FAILED_PERMANENTLY = 2  # the command's exit status where another attempt would end the same
STOP_SECONDS = 10.0

_PR_SET_PDEATHSIG = 1
_STAMP = re.compile(r"^\S+ \S+ (INFO|WARNING|ERROR) ")  # when and how grave, as spark.batch logs it

log = logging.getLogger("tidemark.batch")


class JobFailed(Exception):
    """The command has failed; says its last line. Another attempt may succeed."""


class JobFailedPermanently(Exception):
    """The command has failed, and would again; says its last line."""


def run(command: str, *arguments: object) -> Any:
    """Runs `python -m tidemark.spark.batch COMMAND ARGUMENTS` and returns its result; its lines go to the log.

    Raises JobFailed or JobFailedPermanently. Whatever ends the caller ends the process, too, and with it its JVM.
    """
    settings().jobs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings().jobs) as folder:
        result = Path(folder) / "result"
        words = [sys.executable, "-m", "tidemark.spark.batch", "--result", str(result), command, *map(str, arguments)]
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        try:
            last = _log_lines(process)
            status = process.wait()
        finally:
            _end(process)
        if status == 0:
            return json.loads(result.read_text())
        raise (JobFailedPermanently if status == FAILED_PERMANENTLY else JobFailed)(
            last or f"{command} ended with status {status}: run it again"
        )


def _log_lines(process: subprocess.Popen[str]) -> str:
    """Passes the process's lines on; returns what the last one says."""
    last = ""
    assert process.stdout is not None
    for line in process.stdout:
        last = line.rstrip() or last
        log.info("%s", line.rstrip())
    return _STAMP.sub("", last)


def _die_with_parent() -> None:
    """The kernel ends this process when its parent has ended, however it did. The JVM ends when nobody writes to it any more."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the process's group, its JVM and workers with it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
