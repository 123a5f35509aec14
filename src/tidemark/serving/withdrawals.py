"""Withdrawals: ingestions that have been taken back, because the file was the wrong one, or its date.

Nothing is deleted: the events stay in the log and in the raw history. That an ingestion is withdrawn is one of the validation rules,
so that both layers reject its events, whenever they come, and a night makes the reports anew without it. To take a withdrawal back is
to have the former rules again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from pymongo.client_session import ClientSession
from pymongo.database import Database

from tidemark.catalog.rules import RULES, Rules
from tidemark.serving import control, ledger
from tidemark.serving.database import Document, in_transaction
from tidemark.settings.airflow_names import Dag

_LISTED = 50  # the newest ingestions


class NoIngestion(LookupError):
    """There is no such ingestion."""


class NotWithdrawn(Exception):
    """There is nothing to be taken back."""


class Rebuilding(Exception):
    """While a rebuild is under way the rules stay as they are."""


class Withdrawn(Exception):
    """A file is told again that has been withdrawn."""


class Withdrawal(NamedTuple):
    """Who has withdrawn an ingestion, when, and why."""

    by: str
    at: datetime
    reason: str


def in_force(database: Database[Document]) -> Rules:
    """The rules as they are now: those of the code, and what has been withdrawn."""
    return replace(
        RULES, withdrawn=tuple(sorted(one["_id"] for one in database.ingestion.find({"withdrawn": {"$ne": None}}, {"_id": True})))
    )


def changed(rules: Rules, ingestion: str, *, take_back: bool) -> Rules:
    """The rules as they would be with an ingestion withdrawn, or not any more."""
    others = {*rules.withdrawn} - {ingestion}
    return replace(rules, withdrawn=tuple(sorted(others if take_back else others | {ingestion})))


def of(database: Database[Document], ingestion: str) -> Withdrawal | None:
    """The withdrawal of an ingestion; None where it is not withdrawn. Raises NoIngestion."""
    found = database.ingestion.find_one({"_id": ingestion}, {"withdrawn": True})
    if found is None:
        raise NoIngestion(f"there is no ingestion {ingestion}; those there are:\n{listing(database)}")
    withdrawn = found.get("withdrawn")
    return withdrawn and Withdrawal(**withdrawn)


def withdraw(database: Database[Document], ingestion: str, by: str, reason: str) -> Withdrawal:
    """Withdraws an ingestion and tells the stream to start anew, by rules that say so. Once: a second time the first one stays.

    Raises NoIngestion, Rebuilding.
    """
    said = {"by": {"$literal": by}, "at": "$$NOW", "reason": {"$literal": reason}}
    _change(database, {"_id": ingestion, "withdrawn": None}, said)
    now = of(database, ingestion)
    assert now is not None
    return now


def reinstate(database: Database[Document], ingestion: str) -> None:
    """Takes a withdrawal back, as withdraw() makes it. What is not withdrawn stays as it is. Raises NoIngestion, Rebuilding."""
    _change(database, {"_id": ingestion, "withdrawn": {"$ne": None}}, None)


def _change(database: Database[Document], which: Document, withdrawn: Document | None) -> None:
    def transaction(session: ClientSession) -> None:
        if not database.ingestion.update_one(which, [{"$set": {"withdrawn": withdrawn}}], session=session).matched_count:
            return
        # A rebuild that has been cut off can only be finished by the rules that it began with. Written, so that none begins meanwhile.
        marked = {"$currentDate": {"rules_changed_at": True}}
        if not database.state.update_one({"_id": ledger.LEDGER, "rebuilding": None}, marked, session=session).matched_count:
            raise Rebuilding(
                "a publication is being rebuilt by the rules in force: run "
                f"DAG {Dag.REBUILD.id} or {Dag.NIGHTLY_BATCH.id} first, which finish it"
            )
        control.restart(database, session)

    of(database, which["_id"])
    in_transaction(database, transaction)


def decide(database: Database[Document], ingestion: str, by: str, reason: str, *, take_back: bool) -> None:
    """Withdraws an ingestion, or takes that back. Raises NoIngestion."""
    if take_back:
        reinstate(database, ingestion)
    else:
        withdraw(database, ingestion, by, reason)


def require_none(database: Database[Document], ingestions: Iterable[str]) -> None:
    """Raises Withdrawn where one of these is withdrawn: its rows would all be rejected."""
    for refused in refusals(database, ingestions):
        raise Withdrawn(refused)


def refusals(database: Database[Document], ingestions: Iterable[str]) -> Iterator[str]:
    """Why those of these that are withdrawn are not taken, and what is to be done."""
    for one in database.ingestion.find({"_id": {"$in": list(ingestions)}, "withdrawn": {"$ne": None}}):
        withdrawn = Withdrawal(**one["withdrawn"])
        yield (
            f"{one['name']} as of {one['observed_at']:%Y-%m-%d %H:%M} is ingestion {one['_id']}, which {withdrawn.by} has withdrawn on "
            f"{withdrawn.at:%Y-%m-%d %H:%M} UTC ({withdrawn.reason or 'no reason given'}): "
            f"take that back with DAG {Dag.WITHDRAW.id}, or give "
            "the date that the file is really of"
        )


def await_obeyed(database: Database[Document], seconds: float) -> None:
    """Until the stream goes by the rules in force. Raises NotDone where it does not within so many seconds, or is paused."""
    if ledger.read(database).rules != in_force(database).fingerprint():
        control.await_started(database, ledger.read(database).generation, seconds)
        await_obeyed(database, seconds)


def listing(database: Database[Document]) -> str:
    """The newest ingestions, a line each."""
    found = database.ingestion.find(sort=[("registered_at", -1)], limit=_LISTED)
    return "\n".join(_lines(found)) or "none"


def _lines(found: Iterable[Document]) -> Iterable[str]:
    for one in found:
        withdrawn = one.get("withdrawn")
        state = f"  withdrawn by {withdrawn['by']}, {withdrawn['at']:%Y-%m-%d %H:%M} UTC: {withdrawn['reason']}" if withdrawn else ""
        yield (
            f"{one['_id']}  {one['name']}  {one['rows']:,} rows of {one['observed_at']:%Y-%m-%d %H:%M}, "
            f"told {one['registered_at']:%Y-%m-%d %H:%M} UTC{state}"
        )
