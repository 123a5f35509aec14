"""Upgrades of a database from earlier layouts (tidemark.serving.layout), each in one transaction.

An upgrade takes the next generation, so that a stream of the former version that still runs is fenced off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from pymongo.client_session import ClientSession
from pymongo.database import Database

from tidemark.serving.database import Document, in_transaction
from tidemark.serving.layout import LAYOUT, layout_of
from tidemark.serving.ledger import LEDGER

log = logging.getLogger(__name__)


class Upgrade(NamedTuple):
    """`change` brings a ledger of the layout before to this one, in place."""

    layout: int
    what: str
    change: Callable[[Document], None]


def _bind(ledger: Document) -> None:
    ledger["log"] = {"epoch": 0, "topics": ledger.pop("topics"), "origin": [], "landed": [], "events": 0}
    ledger["witness"] = []


def _nothing(_ledger: Document) -> None:
    pass


UPGRADES = (
    Upgrade(2, "the ledger states which log its offsets refer to, and which records were served last", _bind),
    # A former version would count the posts that are withdrawn.
    Upgrade(3, "posts of a client of the HTTP API can be withdrawn", _nothing),
)


def upgraded(ledger: Document) -> Document:
    """The ledger in the current layout. One that has it, or a later one, is returned as it is."""
    now = dict(ledger)
    for one in _missing(ledger):
        one.change(now)
        now["layout"] = one.layout
    return now


def pending(database: Database[Document]) -> list[Upgrade]:
    """The upgrades that a database needs. None if it is new, or of a later layout."""
    ledger = database.state.find_one({"_id": LEDGER})
    return [] if ledger is None else _missing(ledger)


def upgrade(database: Database[Document]) -> list[Upgrade]:
    """Brings a database to the current layout, and returns what was done. Can be run again at any time."""

    def transaction(session: ClientSession) -> list[Upgrade]:
        ledger = database.state.find_one({"_id": LEDGER}, session=session)
        if ledger is None or layout_of(ledger) >= LAYOUT:
            return []
        now = upgraded(ledger)
        now["generation"] += 1
        database.state.replace_one({"_id": LEDGER}, now, session=session)
        return _missing(ledger)

    done = in_transaction(database, transaction)
    for one in done:
        log.info("database %s: layout %d: %s", database.name, one.layout, one.what)
    return done


def _missing(ledger: Document) -> list[Upgrade]:
    """The upgrades between a ledger's layout and the current one."""
    return [one for one in UPGRADES if layout_of(ledger) < one.layout]
