"""What withdrawing an ingestion does to the rules, and that the stream is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pymongo.database import Database
from support.names import NAMES
from support.registered import register
from support.wording import Wording

from tidemark.catalog.rules import RULES
from tidemark.serving import control, ledger, withdrawals
from tidemark.serving.database import Document

pytestmark = pytest.mark.servers

MOMENT = datetime(2024, 1, 2, tzinfo=UTC)


@pytest.fixture
def registered(database: Database[Document]) -> Database[Document]:
    for identity in ("b", "a"):
        register(database, identity, f"/in/{identity}.csv")
    return database


def test_a_withdrawal_changes_the_rules_and_its_reversal_restores_them(registered: Database[Document]) -> None:
    assert withdrawals.in_force(registered).fingerprint() == RULES.fingerprint()
    first = withdrawals.withdraw(registered, "b", "ann", "wrong date", NAMES)
    assert withdrawals.withdraw(registered, "b", "bob", "again", NAMES) == first
    assert (first.by, first.reason) == ("ann", "wrong date")
    assert withdrawals.in_force(registered).withdrawn == ("b",)
    withdrawals.withdraw(registered, "a", "$ann", "$where", NAMES)
    of_both = withdrawals.in_force(registered)
    assert of_both.withdrawn == ("a", "b")
    assert withdrawals.changed(of_both, "a", take_back=True).withdrawn == ("b",)
    assert withdrawals.changed(of_both, "c", take_back=False).withdrawn == ("a", "b", "c")
    assert control.read(registered).restarts == 2, "a second time changes nothing"
    for identity in ("a", "b", "a"):
        withdrawals.reinstate(registered, identity, NAMES)
    assert withdrawals.in_force(registered).fingerprint() == RULES.fingerprint()
    assert control.read(registered).restarts == 4


def test_an_unknown_ingestion_is_refused_with_a_list_of_known_ones(registered: Database[Document], wording: Wording) -> None:
    withdrawals.withdraw(registered, "a", "ann", "wrong date", NAMES)
    registered.ingestion.update_one({"_id": "b"}, {"$set": {"registered_at": MOMENT}})
    registered.ingestion.update_one(
        {"_id": "a"}, {"$set": {"registered_at": MOMENT + timedelta(days=1), "withdrawn.at": MOMENT + timedelta(days=2)}}
    )
    with pytest.raises(withdrawals.NoIngestion) as missing:
        withdrawals.withdraw(registered, "x", "ann", "", NAMES)
    wording.check(str(missing.value), "missing")
    assert str(missing.value).endswith(f"\n{withdrawals.listing(registered)}")
    withdrawals.require_none(registered, ["b", "x"], NAMES)
    with pytest.raises(withdrawals.Withdrawn) as withdrawn:
        withdrawals.require_none(registered, ["b", "a"], NAMES)
    wording.check(str(withdrawn.value), "withdrawn")


def test_waiting_until_the_stream_uses_the_rules_in_force(registered: Database[Document], wording: Wording) -> None:
    ledger.start_generation(registered, RULES.fingerprint(), {})
    withdrawals.await_stream(registered, 0)
    withdrawals.withdraw(registered, "a", "ann", "", NAMES)
    assert control.read(registered).pause is None
    with pytest.raises(control.NotDone):
        withdrawals.await_stream(registered, 0)
    since = control.pause(registered, "ann").since
    with pytest.raises(control.NotDone) as paused:
        withdrawals.await_stream(registered, 60)
    wording.check(str(paused.value), since=f"{since:%Y-%m-%d %H:%M:%S}")
    control.resume(registered)
    ledger.start_generation(registered, withdrawals.in_force(registered).fingerprint(), {})
    withdrawals.await_stream(registered, 0)


def test_the_rules_cannot_change_during_a_rebuild(registered: Database[Document], wording: Wording) -> None:
    """Only the same rebuild can finish it, by the rules that it began with."""
    registered.state.update_one({"_id": "ledger"}, {"$set": {"rebuilding": 3}})
    with pytest.raises(withdrawals.Rebuilding) as refused:
        withdrawals.withdraw(registered, "a", "ann", "", NAMES)
    wording.check(str(refused.value))
    assert withdrawals.in_force(registered).withdrawn == ()
    assert control.read(registered).restarts == 0
    registered.state.update_one({"_id": "ledger"}, {"$set": {"rebuilding": None}})
    withdrawals.withdraw(registered, "a", "ann", "", NAMES)
    registered.state.update_one({"_id": "ledger"}, {"$set": {"rebuilding": 3}})
    with pytest.raises(withdrawals.Rebuilding):
        withdrawals.reinstate(registered, "a", NAMES)
    assert withdrawals.in_force(registered).withdrawn == ("a",)
