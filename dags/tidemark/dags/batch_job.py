"""Runs a command of the batch layer in another process, which dies with its caller. Does not import Spark.

A process waits for the next command (tidemark.spark.batch_process), so that a night starts Spark once. Where it runs a command of another
caller, or by the settings, a command has a process of its own.
"""

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
from contextlib import suppress
from pathlib import Path
from typing import Any

from tidemark.settings import Settings
from tidemark.spark import batch_calls

FAILED_PERMANENTLY = 2  # the command's exit status if another attempt would fail in the same way
STOP_SECONDS = 10.0

_PR_SET_PDEATHSIG = 1
_STAMP = re.compile(r"^\S+ \S+ (INFO|WARNING|ERROR) ")  # time and level of a line logged by spark.batch

log = logging.getLogger("tidemark.batch")


class JobFailed(Exception):
    """The command has failed; the message is its last line. Another attempt may succeed."""


class JobFailedPermanently(Exception):
    """The command has failed, and would fail again; the message is its last line."""


def run(of: Settings, command: str, *arguments: object) -> Any:
    """Runs the command that `python -m tidemark.spark.batch COMMAND ARGUMENTS` runs, and returns its result. Its output goes to the log.

    Raises JobFailed or JobFailedPermanently. When the caller ends, for whatever reason, the process and its JVM end, too.
    """
    words = [command, *map(str, arguments)]
    if of.batch_idle_seconds:
        with suppress(batch_calls.Busy):
            return _in_lasting_process(of, words)
    return _in_own_process(of, words)


def _in_lasting_process(of: Settings, words: list[str]) -> Any:
    try:
        answer = batch_calls.call(of, words)
    except batch_calls.HungUp as reason:
        raise JobFailed(_STAMP.sub("", str(reason))) from None
    if answer.status:
        raise _failure(answer.status, answer.last, words[0])
    return answer.result


def _in_own_process(of: Settings, words: list[str]) -> Any:
    of.jobs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=of.jobs) as folder:
        result = Path(folder) / "result"
        process = subprocess.Popen(
            [sys.executable, "-m", "tidemark.spark.batch", "--result", str(result), *words],
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
        raise _failure(status, last, words[0])


def _failure(status: int, last: str, command: str) -> Exception:
    message = _STAMP.sub("", last) or f"{command} ended with status {status}: run it again"
    return (JobFailedPermanently if status == FAILED_PERMANENTLY else JobFailed)(message)


def _log_lines(process: subprocess.Popen[str]) -> str:
    """Logs the process's output; returns its last line."""
    last = ""
    assert process.stdout is not None
    for line in process.stdout:
        last = line.rstrip() or last
        log.info("%s", line.rstrip())
    return last


def _die_with_parent() -> None:
    """Lets the kernel kill this process when its parent ends for any reason. The JVM ends when its standard input is closed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the process group, including the JVM and workers."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
