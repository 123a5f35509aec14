"""Finds and ends processes by marks in their environment. Children inherit the marks, so processes that outlive their parent are found.

Airflow's workers hide their environment from everyone but root. They are found by their session or process group.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

GRACE_SECONDS = 10.0  # from SIGTERM to SIGKILL
KILL_SECONDS = 5.0


# Variables in a process's environment: the home of the stack that started it, and the program's name.
STACK_MARK, PROGRAM_MARK = "TIDEMARK_STACK", "TIDEMARK_PROGRAM"


class Process(NamedTuple):
    """A live process; `environment` is None if it is hidden."""

    identity: int
    parent: int
    group: int
    session: int
    environment: frozenset[bytes] | None
    command: bytes


def marks(home: Path, program: str | None = None) -> dict[str, str]:
    """The variables that mark the processes of this home's stack, or of one of its programs."""
    return {STACK_MARK: str(home.resolve()), **({PROGRAM_MARK: program} if program else {})}


def marked(marks: Mapping[str, str], *, session: int | None = None, group: int | None = None) -> list[int]:
    """The ids of all processes, except this one, whose environment has all of these variables.

    Includes Airflow's workers, which hide theirs: those of the session, those of the group, and their children.
    """
    wanted = frozenset(os.fsencode(f"{name}={value}") for name, value in marks.items())
    there = [one for one in _processes() if one.identity != os.getpid()]
    found = {one.identity for one in there if one.environment is not None and wanted <= one.environment}
    workers = [one for one in there if one.environment is None and b"airflow" in one.command]
    found |= {one.identity for one in workers if one.session == session or one.group == group}
    while children := {one.identity for one in workers if one.parent in found} - found:
        found |= children
    return sorted(found)


def alive(identity: int) -> bool:
    """Does the process exist, other than as a zombie?"""
    return _stat(Path("/proc") / str(identity)) is not None


def wait_for_end(identities: list[int], seconds: float) -> None:
    """Waits until none of them is alive, or the time is up."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(alive(one) for one in identities):
        time.sleep(0.1)


def end(marks: Mapping[str, str], *, session: int | None = None, group: int | None = None) -> bool:
    """Ends all processes that marked() finds. Returns False if there were none."""
    found: set[int] = set()
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        found |= {*marked(marks, session=session, group=group)}
        # Processes found through a parent that has ended since are still included.
        left = [identity for identity in found if alive(identity)]
        for identity in left:
            send(identity, number)
        wait_for_end(left, seconds)
    return bool(found)


def _processes() -> Iterator[Process]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (ids := _stat(folder)):
            try:
                command = (folder / "cmdline").read_bytes()
                environment = frozenset((folder / "environ").read_bytes().split(b"\0"))
            except PermissionError:
                yield Process(int(folder.name), *ids, None, command)
            except OSError:  # it has just ended
                continue
            else:
                yield Process(int(folder.name), *ids, environment, command)


def _stat(folder: Path) -> tuple[int, int, int] | None:
    """Parent, group and session; None for a process that does not exist or is a zombie."""
    try:
        state, parent, group, session, *_ = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else (int(parent), int(group), int(session))


def send(identity: int, number: signal.Signals) -> None:
    """Sends a signal to a process, which may have ended."""
    try:
        os.kill(identity, number)
    except ProcessLookupError:
        return
