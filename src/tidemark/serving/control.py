"""What people want of the stream: that it pauses, goes on, or starts anew with the code and the rules in force.

Document `control` of collection `state`. The stream looks at it every second. To end and to be started again by whoever keeps it up
(supervisor, a cluster) is all that it has to do: a start takes whatever code and rules there are, and waits while it is paused.

`python -m tidemark.serving.control pause|resume|restart|show` does the same as DAG `tidemark_stream`.
"""

from __future__ import annotations

import argparse
import getpass
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tidemark.serving import ledger
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.ledger import NotPrepared

CONTROL = "control"
LOOK_SECONDS = 0.5


class NotDone(Exception):
    """The stream has not done what it was told to within the time."""


class Pause(NamedTuple):
    """Who paused the stream, since when, and why. `drain`: it serves first what the log held at that moment."""

    by: str
    since: datetime
    reason: str
    drain: bool


class Control(NamedTuple):
    """`restarts` counts how often the stream was told to start anew. `stopped_at` is when a paused one has come to its end."""

    restarts: int
    pause: Pause | None
    stopped_at: datetime | None


def read(database: Database[Document]) -> Control:
    """Raises NotPrepared."""
    found = database.state.find_one({"_id": CONTROL})
    if found is None:
        raise NotPrepared(f"database {database.name} is not prepared: run `python -m tidemark.serving.schema` first")
    pause = found["pause"]
    return Control(found["restarts"], pause and Pause(**pause), found["stopped_at"])


def pause(database: Database[Document], by: str, reason: str = "", *, drain: bool = True) -> Pause:
    """Pauses the stream. One that is paused stays so by whom and since when it is. Returns the pause that is in force."""
    wanted = {"by": {"$literal": by}, "since": "$$NOW", "reason": {"$literal": reason}, "drain": {"$literal": drain}}
    database.state.update_one({"_id": CONTROL, "pause": None}, [{"$set": {"pause": wanted, "stopped_at": None}}])
    now = read(database).pause
    assert now is not None
    return now


def resume(database: Database[Document]) -> None:
    database.state.update_one({"_id": CONTROL}, {"$set": {"pause": None, "stopped_at": None}})


def restart(database: Database[Document], session: ClientSession | None = None) -> None:
    """Tells the stream to start anew. A paused one stays paused."""
    database.state.update_one({"_id": CONTROL}, {"$inc": {"restarts": 1}}, session=session)


def mark_stopped(database: Database[Document]) -> None:
    """A paused stream says that it has come to its end."""
    database.state.update_one({"_id": CONTROL, "pause": {"$ne": None}, "stopped_at": None}, {"$currentDate": {"stopped_at": True}})


def tell(database: Database[Document], action: str, reason: str, by: str, *, drain: bool) -> int:
    """Tells the stream to `pause`, `resume` or `restart`; returns the generation above which it has done so, for wait()."""
    before = ledger.read(database).generation
    match action:
        case "pause":
            pause(database, by, reason, drain=drain)
        case "resume":
            # One that has not come to its end goes on as the generation that it is.
            before -= read(database).stopped_at is None
            resume(database)
        case "restart":
            restart(database)
        case _:
            raise ValueError(f"{action} is nothing that the stream does: pause, resume or restart")
    return before


def wait(database: Database[Document], action: str, generation: int, seconds: float) -> None:
    """Until the stream has done what tell() has told it. Raises NotDone where it has not within so many seconds."""
    if action == "pause":
        await_stopped(database, seconds)
    else:
        await_started(database, generation, seconds)


def await_stopped(database: Database[Document], seconds: float) -> None:
    """Until the paused stream has come to its end. Raises NotDone where it has not within so many seconds, or is resumed meanwhile."""

    def done() -> bool:
        now = read(database)
        if now.pause is None:
            raise NotDone("the stream has been resumed meanwhile")
        return now.stopped_at is not None

    _wait(done, seconds, "the stream has not come to its end, where it says that it is paused")


def await_started(database: Database[Document], above: int, seconds: float) -> None:
    """Until a stream of a generation above that one is at work. Raises NotDone where none is within so many seconds, or it is paused."""

    def done() -> bool:
        now = read(database)
        if now.pause is not None:
            raise NotDone(f"{in_words(now)}: it starts when it is resumed")
        return ledger.read(database).generation > above

    _wait(done, seconds, "no stream has started")


def _wait(done: Callable[[], bool], seconds: float, otherwise: str) -> None:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise NotDone(f"{otherwise} within {seconds:.0f} s: see its log, and whether anybody keeps it up")
        time.sleep(LOOK_SECONDS)


def in_words(now: Control) -> str:
    return "the stream is wanted to run" if now.pause is None else pause_in_words(now.pause.by, now.pause.since, now.pause.reason)


def pause_in_words(by: str, since: datetime, reason: str) -> str:
    return f"paused by {by} since {since:%Y-%m-%d %H:%M:%S} UTC{f': {reason}' if reason else ''}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tidemark.serving.control", description="Pauses the stream, lets it go on, or starts it anew."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    pausing = commands.add_parser("pause", help="let it serve what the log holds, then stop it until it is resumed")
    pausing.add_argument("--reason", default="", help="for whoever finds it paused")
    pausing.add_argument("--at-once", action="store_true", help="after the micro-batch that is under way; what it has not served waits")
    commands.add_parser("resume", help="let it go on where it was")
    commands.add_parser("restart", help="start it anew, with the code and the rules in force")
    commands.add_parser("show", help="say what is wanted of it")
    given = parser.parse_args(words)
    asked = {"reason": "", "at_once": False, **vars(given)}
    try:
        with connect() as client:
            database = database_of(client)
            if asked["command"] != "show":
                tell(database, asked["command"], asked["reason"], getpass.getuser(), drain=not asked["at_once"])
            sys.stdout.write(f"{in_words(read(database))}\n")
    except (NotPrepared, PyMongoError) as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
