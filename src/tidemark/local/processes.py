"""Processes found by marks in their environment, which children inherit: so what outlived its parent is found again, and ended.

Airflow's workers hide their environment from everybody but root. They are found by the session or group that they were started in.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

POLITE_SECONDS = 10.0  # from SIGTERM to SIGKILL
STUBBORN_SECONDS = 5.0


class Process(NamedTuple):
    """A living process; `environment` is None where it is hidden."""

    identity: int
    parent: int
    group: int
    session: int
    environment: frozenset[bytes] | None
    command: bytes


def marked(marks: Mapping[str, str], *, session: int | None = None, group: int | None = None) -> list[int]:
    """Ids of the processes whose environment holds all of these variables, but for this one.

    With them the workers of Airflow that hide theirs: those of that session, those of that group, and their children.
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
    """Is there such a process, and not only its exit status?"""
    return _stat(Path("/proc") / str(identity)) is not None


def wait_for_end(identities: list[int], seconds: float) -> None:
    """Until none of them is alive, or the time is up."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(alive(one) for one in identities):
        time.sleep(0.1)


def end(marks: Mapping[str, str], *, session: int | None = None, group: int | None = None) -> bool:
    """Ends all that `marked` finds. False where there was nothing."""
    found: set[int] = set()
    for number, seconds in ((signal.SIGTERM, POLITE_SECONDS), (signal.SIGKILL, STUBBORN_SECONDS)):
        found |= {*marked(marks, session=session, group=group)}
        # Who was found by a parent that has ended since is still meant.
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
    """Parent, group and session; None for a process that is not there or only waits for its parent to notice its end."""
    try:
        state, parent, group, session, *_ = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else (int(parent), int(group), int(session))


def send(identity: int, number: signal.Signals) -> None:
    """A signal to a process, which may have ended."""
    try:
        os.kill(identity, number)
    except ProcessLookupError:
        return
