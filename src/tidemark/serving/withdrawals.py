"""Withdrawals: ingestions revoked because the file or its date was wrong.

Nothing is deleted: the events stay in the log and in the raw history. The set of withdrawn ingestions is part of the validation rules, so
both layers reject their events whenever they arrive, and the nightly batch recomputes the reports without them. Undoing a withdrawal
restores the former rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple, cast

from pymongo.client_session import ClientSession
from pymongo.database import Database

from tidemark.catalog.rules import RULES, Rules
from tidemark.rendering.ingestions import render_ingestion
from tidemark.serving import control, ledger
from tidemark.serving.database import Document, in_transaction, latest
from tidemark.serving.documents import IngestionDocument
from tidemark.settings.airflow_names import AirflowNames, Dag

_LISTED = 50  # newest ingestions in a list


class NoIngestion(LookupError):
    """The ingestion does not exist."""


class NotWithdrawn(Exception):
    """The ingestion is not withdrawn, so there is nothing to undo."""


class Rebuilding(Exception):
    """The rules cannot change while a rebuild is in progress."""


class Withdrawn(Exception):
    """A file whose ingestion is withdrawn is being ingested again."""


class Withdrawal(NamedTuple):
    """Who withdrew an ingestion, when, and why."""

    by: str
    at: datetime
    reason: str


def in_force(database: Database[Document], code: Rules = RULES, session: ClientSession | None = None) -> Rules:
    """The rules in force: those of the code, with the withdrawn ingestions. In a transaction, as of its snapshot."""
    ingestions = database.ingestion if session else latest(database.ingestion)
    found = ingestions.find({"withdrawn": {"$ne": None}}, {"_id": True}, session=session)
    return replace(code, withdrawn=tuple(sorted(one["_id"] for one in found)))


def changed(rules: Rules, ingestion: str, *, take_back: bool) -> Rules:
    """The rules after withdrawing an ingestion, or after undoing its withdrawal."""
    others = {*rules.withdrawn} - {ingestion}
    return replace(rules, withdrawn=tuple(sorted(others if take_back else others | {ingestion})))


def of(database: Database[Document], ingestion: str) -> Withdrawal | None:
    """The withdrawal of an ingestion; None if it is not withdrawn. Raises NoIngestion."""
    found = database.ingestion.find_one({"_id": ingestion}, {"withdrawn": True})
    if found is None:
        raise NoIngestion(f"there is no ingestion {ingestion}. The newest ingestions are:\n{listing(database)}")
    withdrawn = cast(IngestionDocument, found).get("withdrawn")
    return withdrawn and Withdrawal(**withdrawn)


def withdraw(database: Database[Document], ingestion: str, by: str, reason: str, names: AirflowNames) -> Withdrawal:
    """Withdraws an ingestion and restarts the stream with the new rules, also where it is held. Idempotent: an existing withdrawal stays
    unchanged.

    Raises NoIngestion, Rebuilding.
    """
    withdrawn = {"by": {"$literal": by}, "at": "$$NOW", "reason": {"$literal": reason}}
    _change(database, {"_id": ingestion, "withdrawn": None}, withdrawn, names)
    now = of(database, ingestion)
    assert now is not None
    return now


def reinstate(database: Database[Document], ingestion: str, names: AirflowNames) -> None:
    """Undoes withdraw(). No effect if the ingestion is not withdrawn. Raises NoIngestion, Rebuilding."""
    _change(database, {"_id": ingestion, "withdrawn": {"$ne": None}}, None, names)


def _change(database: Database[Document], which: Document, withdrawn: Document | None, names: AirflowNames) -> None:
    def transaction(session: ClientSession) -> None:
        if not database.ingestion.update_one(which, [{"$set": {"withdrawn": withdrawn}}], session=session).matched_count:
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

    of(database, which["_id"])
    in_transaction(database, transaction)


def apply(database: Database[Document], ingestion: str, by: str, reason: str, names: AirflowNames, *, take_back: bool) -> None:
    """Withdraws an ingestion, or undoes its withdrawal. Raises NoIngestion."""
    if take_back:
        reinstate(database, ingestion, names)
    else:
        withdraw(database, ingestion, by, reason, names)


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


def await_stream(database: Database[Document], seconds: float) -> None:
    """Waits until the stream uses the rules in force. Raises NotDone after so many seconds, or if it is paused."""
    if ledger.read(database).rules != in_force(database).fingerprint():
        control.await_started(database, ledger.read(database).generation, seconds)
        await_stream(database, seconds)


def listing(database: Database[Document]) -> str:
    """The newest ingestions, one per line."""
    found = database.ingestion.find(sort=[("registered_at", -1)], limit=_LISTED)
    return "\n".join(map(render_ingestion, found)) or "none"
