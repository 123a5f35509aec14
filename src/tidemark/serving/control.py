"""The desired state of the stream: running, paused, or restarted with the current code and rules.

It is document `control` of collection `state`, which the stream reads every second. To pause or restart, the stream exits and its
supervisor (supervisord, a cluster) starts it again: each start uses the current code and rules, and waits while the stream is paused.

`python -m tidemark.serving.control pause|resume|restart|show` does the same as DAG `tidemark_stream`.
"""

from __future__ import annotations

import argparse
import getpass
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, cast

from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tidemark.rendering.control import render_pause
from tidemark.serving import ledger
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.documents import ControlDocument
from tidemark.serving.ledger import NotPrepared
from tidemark.settings import settings

CONTROL = "control"
POLL_SECONDS = 0.5


class NotDone(Exception):
    """The stream has not reached the desired state in time."""


class Pause(NamedTuple):
    """Who paused the stream, since when, and why. `drain`: it first serves what the log held at that moment."""

    by: str
    since: datetime
    reason: str
    drain: bool


class Control(NamedTuple):
    """`restarts` counts the restarts requested so far. `stopped_at` is when the paused stream stopped."""

    restarts: int
    pause: Pause | None
    stopped_at: datetime | None


def read(database: Database[Document]) -> Control:
    """Raises NotPrepared."""
    found = database.state.find_one({"_id": CONTROL})
    if found is None:
        raise NotPrepared(f"database {database.name} is not prepared: run `python -m tidemark.serving.schema`")
    document = cast(ControlDocument, found)
    pause = document["pause"]
    return Control(document["restarts"], pause and Pause(**pause), document["stopped_at"])


def pause(database: Database[Document], by: str, reason: str = "", *, drain: bool = True) -> Pause:
    """Pauses the stream. An existing pause stays unchanged. Returns the pause in force."""
    wanted = {"by": {"$literal": by}, "since": "$$NOW", "reason": {"$literal": reason}, "drain": {"$literal": drain}}
    database.state.update_one({"_id": CONTROL, "pause": None}, [{"$set": {"pause": wanted, "stopped_at": None}}])
    now = read(database).pause
    assert now is not None
    return now


def resume(database: Database[Document]) -> None:
    database.state.update_one({"_id": CONTROL}, {"$set": {"pause": None, "stopped_at": None}})


def restart(database: Database[Document], session: ClientSession | None = None) -> None:
    """Requests a restart of the stream. A paused stream stays paused."""
    database.state.update_one({"_id": CONTROL}, {"$inc": {"restarts": 1}}, session=session)


def mark_stopped(database: Database[Document]) -> None:
    """Records that the paused stream has stopped."""
    database.state.update_one({"_id": CONTROL, "pause": {"$ne": None}, "stopped_at": None}, {"$currentDate": {"stopped_at": True}})


def request(database: Database[Document], action: str, reason: str, by: str, *, drain: bool) -> int:
    """Requests `pause`, `resume` or `restart`. Returns a generation for wait(): any higher one has carried out the request."""
    before = ledger.read(database).generation
    match action:
        case "pause":
            pause(database, by, reason, drain=drain)
        case "resume":
            # A stream that has not stopped yet continues with its current generation.
            before -= read(database).stopped_at is None
            resume(database)
        case "restart":
            restart(database)
        case _:
            raise ValueError(f"unknown action {action}: use pause, resume or restart")
    return before


def wait(database: Database[Document], action: str, generation: int, seconds: float) -> None:
    """Waits until the stream has carried out what request() requested. Raises NotDone after so many seconds."""
    if action == "pause":
        await_stopped(database, seconds)
    else:
        await_started(database, generation, seconds)


def await_stopped(database: Database[Document], seconds: float) -> None:
    """Waits until the paused stream has stopped. Raises NotDone after so many seconds, or if it is resumed in the meantime."""

    def done() -> bool:
        now = read(database)
        if now.pause is None:
            raise NotDone("the stream was resumed in the meantime")
        return now.stopped_at is not None

    _wait(done, seconds, "the paused stream has not stopped")


def await_started(database: Database[Document], above: int, seconds: float) -> None:
    """Waits until a stream of a generation above that one has started. Raises NotDone after so many seconds, or if it is paused."""

    def done() -> bool:
        now = read(database)
        if now.pause is not None:
            raise NotDone(f"{describe(now)}; the stream starts when it is resumed")
        return ledger.read(database).generation > above

    _wait(done, seconds, "no stream has started")


def _wait(done: Callable[[], bool], seconds: float, otherwise: str) -> None:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise NotDone(f"{otherwise} within {seconds:.0f} s: see its log (make logs PROGRAM=speed), and check that its supervisor runs")
        time.sleep(POLL_SECONDS)


def describe(now: Control) -> str:
    """The desired state as text."""
    return "desired state: running" if now.pause is None else render_pause(now.pause.by, now.pause.since, now.pause.reason)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tidemark.serving.control", description="Pauses, resumes or restarts the stream.")
    commands = parser.add_subparsers(dest="command", required=True)
    pausing = commands.add_parser("pause", help="serve what the log holds now, then stop until resumed")
    pausing.add_argument("--reason", default="", help="shown while the stream is paused")
    pausing.add_argument("--at-once", action="store_true", help="stop after the current micro-batch; unserved events wait in the log")
    commands.add_parser("resume", help="continue where the stream stopped")
    commands.add_parser("restart", help="restart the stream with the current code and rules")
    commands.add_parser("show", help="print the desired state")
    given = parser.parse_args(words)
    asked = {"reason": "", "at_once": False, **vars(given)}
    of = settings()
    try:
        with connect(of.mongodb) as client:
            database = database_of(client, of.database)
            if asked["command"] != "show":
                request(database, asked["command"], asked["reason"], getpass.getuser(), drain=not asked["at_once"])
            sys.stdout.write(f"{describe(read(database))}\n")
    except (NotPrepared, PyMongoError) as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
