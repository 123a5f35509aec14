"""Processes found by marks in their environment, which children inherit: so what outlived its parent is found again, and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

POLITE_SECONDS = 10.0  # from SIGTERM to SIGKILL
STUBBORN_SECONDS = 5.0


def marked(marks: Mapping[str, str]) -> list[int]:
    """Ids of the processes whose environment holds all of these variables, without this one and those that are dead."""
    wanted = {f"{name}={value}".encode() for name, value in marks.items()}
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:  # it has ended, or is somebody else's
            continue
        if wanted.issubset(environment.split(b"\0")) and alive(int(folder.name)):
            found.append(int(folder.name))
    return sorted(found)


def alive(identity: int) -> bool:
    """Is there such a process, and not only its exit status?"""
    try:
        return (Path("/proc") / str(identity) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_end(identities: list[int], seconds: float) -> None:
    """Until none of them is alive, or the time is up."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(alive(one) for one in identities):
        time.sleep(0.1)


def end(marks: Mapping[str, str]) -> bool:
    """Ends all that are marked so, and what they start meanwhile. False where there was nothing."""
    anything = False
    for number, seconds in ((signal.SIGTERM, POLITE_SECONDS), (signal.SIGKILL, STUBBORN_SECONDS)):
        found = marked(marks)
        anything = anything or bool(found)
        for identity in found:
            _signal(identity, number)
        wait_for_end(found, seconds)
    return anything


def _signal(identity: int, number: signal.Signals) -> None:
    try:
        os.kill(identity, number)
    except ProcessLookupError:
        return
