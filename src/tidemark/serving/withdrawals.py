"""Withdrawals: files revoked because the file or its date was wrong, and posts revoked because what a client sent was wrong.

What is withdrawn is named by the id of an ingestion, or as posts (tidemark.catalog.posts). Nothing is deleted: the events stay in the log
and in the raw history. Withdrawals are part of the validation rules, so both layers reject the events whenever they arrive, and the nightly
batch recomputes the reports without them. Undoing a withdrawal restores the former rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from pymongo.client_session import ClientSession
from pymongo.database import Database

from tidemark.catalog.posts import Posts, is_posts, parse
from tidemark.catalog.rules import Rules
from tidemark.rendering.ingestions import render_ingestion, render_withdrawn_posts
from tidemark.serving import control, ledger
from tidemark.serving.database import Document, clock, in_transaction, latest
from tidemark.settings.airflow_names import AirflowNames, Dag

_LISTED = 50  # newest ingestions in a list


_Name = TypeVar("_Name", bound=str | Posts)


class NoIngestion(LookupError):
    """The ingestion does not exist, or the posts are yet to come."""


class NotWithdrawn(Exception):
    """It is not withdrawn, so there is nothing to undo."""


class Rebuilding(Exception):
    """The rules cannot change while a rebuild is in progress."""


class Withdrawn(Exception):
    """A file whose ingestion is withdrawn is being ingested again."""


class Withdrawal(NamedTuple):
    """Who withdrew it, when, and why."""

    by: str
    at: datetime
    reason: str


def in_force(database: Database[Document], code: Rules, session: ClientSession | None = None) -> Rules:
    """The rules in force: those of the code, with what is withdrawn. In a transaction, as of its snapshot."""
    ingestions, posts = (found if session else latest(found) for found in (database.ingestion, database.withdrawn_posts))
    ids = [one["_id"] for one in ingestions.find({"withdrawn": {"$ne": None}}, {"_id": True}, session=session)]
    names = [one["_id"] for one in posts.find({}, {"_id": True}, session=session)]
    return replace(code, withdrawn=tuple(sorted(ids)), withdrawn_posts=tuple(map(parse, sorted(names))))


def changed(rules: Rules, name: str, *, take_back: bool) -> Rules:
    """The rules after a withdrawal, or after undoing one. Raises InvalidPosts."""
    if is_posts(name):
        return replace(rules, withdrawn_posts=_changed(rules.withdrawn_posts, parse(name), take_back))
    return replace(rules, withdrawn=_changed(rules.withdrawn, name, take_back))


def _changed(withdrawn: tuple[_Name, ...], name: _Name, take_back: bool) -> tuple[_Name, ...]:
    others = [one for one in withdrawn if one != name]
    return tuple(sorted(others if take_back else [*others, name], key=str))


def named(database: Database[Document], name: str) -> str:
    """The full name of what is to be withdrawn. Raises InvalidPosts, and NoIngestion if there is nothing of that name, or not yet."""
    if not is_posts(name):
        if database.ingestion.find_one({"_id": name}, {"_id": True}) is None:
            raise NoIngestion(f"there is no ingestion {name}. {choices(database)}")
        return name
    posts = parse(name)
    now = round(clock(database).timestamp() * 1000)
    if posts.end > now:
        raise NoIngestion(
            f"{posts} has not passed: posts that are yet to come cannot be withdrawn. Name a time that has passed, such as "
            f"{posts._replace(end=max(now, posts.begin + 1))}"
        )
    return str(posts)


def of(database: Database[Document], name: str) -> Withdrawal | None:
    """The withdrawal of an ingestion or of posts; None if it is not withdrawn. Raises NoIngestion, InvalidPosts."""
    name = named(database, name)
    found: Any
    if is_posts(name):
        found = database.withdrawn_posts.find_one({"_id": name}, {"_id": False})
    else:
        found = (database.ingestion.find_one({"_id": name}, {"withdrawn": True}) or {}).get("withdrawn")
    return found and Withdrawal(**found)


def withdraw(database: Database[Document], name: str, by: str, reason: str, names: AirflowNames) -> Withdrawal:
    """Withdraws an ingestion or posts and restarts the stream with the new rules, also where it is held. Idempotent: an existing
    withdrawal stays unchanged.

    Raises NoIngestion, InvalidPosts, Rebuilding.
    """
    withdrawn = {"by": {"$literal": by}, "at": "$$NOW", "reason": {"$literal": reason}}
    _change(database, name, withdrawn, names)
    now = of(database, name)
    assert now is not None
    return now


def reinstate(database: Database[Document], name: str, names: AirflowNames) -> None:
    """Undoes withdraw(). No effect if that is not withdrawn. Raises NoIngestion, InvalidPosts, Rebuilding."""
    _change(database, name, None, names)


def _change(database: Database[Document], name: str, withdrawn: Document | None, names: AirflowNames) -> None:
    name = named(database, name)
    write = _write_posts if is_posts(name) else _write_ingestion

    def transaction(session: ClientSession) -> None:
        if not write(database, session, name, withdrawn):
            return
        # An interrupted rebuild can only be finished under the rules it began with. The write makes a rebuild that begins now conflict.
        marked = {"$currentDate": {"rules_changed_at": True}}
        if not database.state.update_one({"_id": ledger.LEDGER, "rebuilding": None}, marked, session=session).matched_count:
            raise Rebuilding(
                "a publication is being rebuilt under the current rules: finish the rebuild first, "
                f"with DAG {names.of(Dag.REBUILD)} or {names.of(Dag.NIGHTLY_BATCH)}"
            )
        control.restart(database, session)
        control.lift_hold(database, session)

    in_transaction(database, transaction)


def _write_ingestion(database: Database[Document], session: ClientSession, name: str, withdrawn: Document | None) -> bool:
    """Withdraws an ingestion, or undoes it if `withdrawn` is None. Returns whether that changes anything."""
    other = {"_id": name, "withdrawn": {"$ne": None} if withdrawn is None else None}
    return bool(database.ingestion.update_one(other, [{"$set": {"withdrawn": withdrawn}}], session=session).matched_count)


def _write_posts(database: Database[Document], session: ClientSession, name: str, withdrawn: Document | None) -> bool:
    """The same for posts."""
    posts = database.withdrawn_posts
    if withdrawn is None:
        return bool(posts.delete_one({"_id": name}, session=session).deleted_count)
    if posts.find_one({"_id": name}, session=session) is not None:
        return False
    posts.update_one({"_id": name}, [{"$set": withdrawn}], upsert=True, session=session)
    return True


def apply(database: Database[Document], name: str, by: str, reason: str, names: AirflowNames, *, take_back: bool) -> None:
    """Withdraws an ingestion or posts, or undoes that. Raises NoIngestion, InvalidPosts, Rebuilding."""
    if take_back:
        reinstate(database, name, names)
    else:
        withdraw(database, name, by, reason, names)


def require_none(database: Database[Document], ingestions: Iterable[str], names: AirflowNames) -> None:
    """Raises Withdrawn if one of these is withdrawn: all its rows would be rejected."""
    for refused in refusals(database, ingestions, names):
        raise Withdrawn(refused)


def refusals(database: Database[Document], ingestions: Iterable[str], names: AirflowNames) -> Iterator[str]:
    """For each of these ingestions that is withdrawn: why it is refused, and what to do."""
    for one in database.ingestion.find({"_id": {"$in": list(ingestions)}, "withdrawn": {"$ne": None}}):
        withdrawn = Withdrawal(**one["withdrawn"])
        yield (
            f"{one['name']} as of {one['observed_at']:%Y-%m-%d %H:%M} UTC is ingestion {one['_id']}, which {withdrawn.by} withdrew at "
            f"{withdrawn.at:%Y-%m-%d %H:%M} UTC ({withdrawn.reason or 'no reason given'}): "
            f"undo the withdrawal with DAG {names.of(Dag.WITHDRAW)}, or give the correct date of the file"
        )


def await_stream(database: Database[Document], code: Rules, seconds: float) -> None:
    """Waits until the stream uses the rules in force. Raises NotDone after so many seconds, or if it is paused."""
    if ledger.read(database).rules != in_force(database, code).fingerprint():
        control.await_started(database, ledger.read(database).generation, seconds)
        await_stream(database, code, seconds)


def listing(database: Database[Document]) -> str:
    """The newest ingestions, one per line, then the withdrawn posts."""
    found = database.ingestion.find(sort=[("registered_at", -1)], limit=_LISTED)
    posts = database.withdrawn_posts.find(sort=[("at", -1)], limit=_LISTED)
    return "\n".join([*map(render_ingestion, found), *map(render_withdrawn_posts, posts)]) or "none"


def choices(database: Database[Document]) -> str:
    """What can be withdrawn, as text."""
    return (
        f"The newest ingestions are:\n{listing(database)}\nPosts of a client of the HTTP API are named api/CLIENT/DAY or "
        "api/CLIENT/FROM/UNTIL, with the name of its API key"
    )
