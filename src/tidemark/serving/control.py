"""The desired state of the stream: running, paused, or restarted with the current code and rules.

It is document `control` of collection `state`, which the stream reads every second. To pause or restart, the stream exits and its
supervisor (supervisord, a cluster) starts it again: each start uses the current code and rules, and waits while the stream is paused.

The stream pauses itself where a micro-batch would make very many new cells: it is held until a person accepts the micro-batch, or changes
the rules by a withdrawal.

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

from tidemark.catalog.marks import TideMark
from tidemark.catalog.words import counted
from tidemark.rendering.control import render_pause
from tidemark.serving import ledger, offsets
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.documents import ControlDocument
from tidemark.serving.ledger import NotPrepared
from tidemark.settings import settings

CONTROL = "control"
STREAM = "the stream"  # who pauses it when it is held
POLL_SECONDS = 0.5

_RUNNING: Document = {"pause": None, "stopped_at": None, "held": None}


class NotDone(Exception):
    """The stream has not reached the desired state in time."""


class Held(Exception):
    """The stream waits until a person accepts what a micro-batch would change."""


class NotHeld(Exception):
    """The stream is not held at what a person accepts."""


class Pause(NamedTuple):
    """Who paused the stream, since when, and why. `drain`: it first serves what the log held at that moment."""

    by: str
    since: datetime
    reason: str
    drain: bool


class Control(NamedTuple):
    """`restarts` counts the restarts requested so far. `stopped_at` is when the paused stream stopped. `held` is the number of new cells
    that wait for a person's acceptance. Events below `accepted` may make any number of new cells.
    """

    restarts: int
    pause: Pause | None = None
    stopped_at: datetime | None = None
    held: int | None = None
    accepted: TideMark = TideMark()


def read(database: Database[Document]) -> Control:
    """Raises NotPrepared."""
    found = database.state.find_one({"_id": CONTROL})
    if found is None:
        raise NotPrepared(f"database {database.name} is not prepared: run `python -m tidemark.serving.schema`")
    document = cast(ControlDocument, found)
    pause, held = document["pause"], document.get("held")
    return Control(
        document["restarts"],
        pause and Pause(**pause),
        document["stopped_at"],
        held and held["new_cells"],
        offsets.from_documents(document.get("accepted")),
    )


def pause(database: Database[Document], by: str, reason: str = "", *, drain: bool = True) -> Pause:
    """Pauses the stream. An existing pause stays unchanged. Returns the pause in force."""
    wanted = {"by": {"$literal": by}, "since": "$$NOW", "reason": {"$literal": reason}, "drain": {"$literal": drain}}
    database.state.update_one({"_id": CONTROL, "pause": None}, [{"$set": {"pause": wanted, "stopped_at": None}}])
    now = read(database).pause
    assert now is not None
    return now


def hold(database: Database[Document], session: ClientSession, reason: str, mark: TideMark, new_cells: int) -> None:
    """Pauses the stream before a micro-batch that would reach this mark, until a person accepts it. An existing pause stays unchanged."""
    pause = {"by": STREAM, "since": "$$NOW", "reason": {"$literal": reason}, "drain": False}
    held = {"mark": offsets.to_documents(mark), "new_cells": new_cells}
    update = [{"$set": {"pause": pause, "stopped_at": None, "held": {"$literal": held}}}]
    database.state.update_one({"_id": CONTROL, "pause": None}, update, session=session)


def lift_hold(database: Database[Document], session: ClientSession) -> None:
    """Lets a held stream judge again, because the rules have changed."""
    database.state.update_one({"_id": CONTROL, "held": {"$ne": None}}, {"$set": _RUNNING}, session=session)


def resume(database: Database[Document], accept: int | None = None) -> None:
    """Ends a pause. `accept` is the number of new cells of a held micro-batch, which it accepts. Raises NotHeld if it is another number."""
    if accept is None:
        database.state.update_one({"_id": CONTROL}, {"$set": _RUNNING})
        return
    accepted = [{"$set": {"accepted": "$held.mark", **{name: {"$literal": value} for name, value in _RUNNING.items()}}}]
    if not database.state.update_one({"_id": CONTROL, "held.new_cells": accept}, accepted).matched_count:
        held = read(database).held
        raise NotHeld(
            f"{counted(accept, 'new cell')} cannot be accepted: "
            + ("the stream is not held" if held is None else f"the stream is held at {counted(held, 'new cell')}")
            + ". See make status; nothing has been changed"
        )


def restart(database: Database[Document], session: ClientSession | None = None) -> None:
    """Requests a restart of the stream. A paused stream stays paused."""
    database.state.update_one({"_id": CONTROL}, {"$inc": {"restarts": 1}}, session=session)


def mark_stopped(database: Database[Document]) -> None:
    """Records that the paused stream has stopped."""
    database.state.update_one({"_id": CONTROL, "pause": {"$ne": None}, "stopped_at": None}, {"$currentDate": {"stopped_at": True}})


def request(database: Database[Document], action: str, reason: str, by: str, *, drain: bool, accept: int | None = None) -> int:
    """Requests `pause`, `resume` or `restart`. Returns a generation for wait(): any higher one has carried out the request.

    With resume, `accept` accepts a held micro-batch. Raises NotHeld.
    """
    before = ledger.read(database).generation
    match action:
        case "pause":
            pause(database, by, reason, drain=drain)
        case "resume":
            # A stream that has not stopped yet continues with its current generation.
            before -= read(database).stopped_at is None
            resume(database, accept)
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
    resuming = commands.add_parser("resume", help="continue where the stream stopped")
    resuming.add_argument("--accept", type=int, metavar="CELLS", help="accept the micro-batch of so many new cells at which it is held")
    commands.add_parser("restart", help="restart the stream with the current code and rules")
    commands.add_parser("show", help="print the desired state")
    given = parser.parse_args(words)
    asked = {"reason": "", "at_once": False, "accept": None, **vars(given)}
    of = settings()
    try:
        with connect(of.mongodb) as client:
            database = database_of(client, of.database)
            if asked["command"] != "show":
                by, drain = getpass.getuser(), not asked["at_once"]
                request(database, asked["command"], asked["reason"], by, drain=drain, accept=asked["accept"])
            sys.stdout.write(f"{describe(read(database))}\n")
    except (NotPrepared, NotHeld, PyMongoError) as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
