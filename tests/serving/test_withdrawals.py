"""What withdrawing an ingestion does to the rules, and that the stream is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pymongo.database import Database
from support.names import NAMES
from support.registered import register
from support.wording import Wording

from tidemark.catalog.posts import InvalidPosts, parse
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
    assert withdrawals.in_force(registered, RULES).fingerprint() == RULES.fingerprint()
    first = withdrawals.withdraw(registered, "b", "ann", "wrong date", NAMES)
    assert withdrawals.withdraw(registered, "b", "bob", "again", NAMES) == first
    assert (first.by, first.reason) == ("ann", "wrong date")
    assert withdrawals.in_force(registered, RULES).withdrawn == ("b",)
    withdrawals.withdraw(registered, "a", "$ann", "$where", NAMES)
    of_both = withdrawals.in_force(registered, RULES)
    assert of_both.withdrawn == ("a", "b")
    assert withdrawals.changed(of_both, "a", take_back=True).withdrawn == ("b",)
    assert withdrawals.changed(of_both, "c", take_back=False).withdrawn == ("a", "b", "c")
    assert control.read(registered).restarts == 2, "a second time changes nothing"
    for identity in ("a", "b", "a"):
        withdrawals.reinstate(registered, identity, NAMES)
    assert withdrawals.in_force(registered, RULES).fingerprint() == RULES.fingerprint()
    assert control.read(registered).restarts == 4


def test_posts_are_withdrawn_and_reinstated(registered: Database[Document], wording: Wording) -> None:
    full, others = "api/shop/2024-01-02T00:00:00Z/2024-01-03T00:00:00Z", "api/other/2024-01-01T10:00:00Z/2024-01-01T11:00:00Z"
    first = withdrawals.withdraw(registered, "api/shop/2024-01-02", "ann", "prices in cents", NAMES)
    assert withdrawals.withdraw(registered, full, "bob", "again", NAMES) == first == withdrawals.of(registered, full)
    assert (first.by, first.reason) == ("ann", "prices in cents")
    assert withdrawals.of(registered, others) is None
    withdrawals.withdraw(registered, others, "$ann", "$where", NAMES)
    withdrawals.withdraw(registered, "a", "ann", "", NAMES)
    rules = withdrawals.in_force(registered, RULES)
    assert (rules.withdrawn, [str(one) for one in rules.withdrawn_posts]) == (("a",), [others, full])
    assert withdrawals.changed(rules, "api/shop/2024-01-02", take_back=True).withdrawn_posts == rules.withdrawn_posts[:1]
    more = withdrawals.changed(rules, "api/shop/2024-01-01", take_back=False)
    assert more.withdrawn_posts == (rules.withdrawn_posts[0], parse("api/shop/2024-01-01"), parse(full))
    assert control.read(registered).restarts == 3, "a second time changes nothing"
    registered.withdrawn_posts.update_many({}, {"$set": {"at": MOMENT}})
    wording.check(withdrawals.listing(registered).splitlines()[-2:][0], "listed")
    for name in (full, others, full):
        withdrawals.reinstate(registered, name, NAMES)
    assert withdrawals.in_force(registered, RULES).withdrawn_posts == ()
    assert control.read(registered).restarts == 5


def test_posts_that_are_yet_to_come_are_not_withdrawn(registered: Database[Document]) -> None:
    with pytest.raises(withdrawals.NoIngestion, match="has not passed") as refused:
        withdrawals.withdraw(registered, "api/shop/2024-01-02/9999-01-01", "ann", "", NAMES)
    proposed = str(refused.value).rpartition(" ")[2]
    assert parse(proposed).end < parse("api/shop/2024-01-02/9999-01-01").end
    withdrawals.withdraw(registered, proposed, "ann", "", NAMES)
    with pytest.raises(InvalidPosts):
        withdrawals.withdraw(registered, "api/shop", "ann", "", NAMES)


def test_an_unknown_ingestion_is_refused_with_a_list_of_known_ones(registered: Database[Document], wording: Wording) -> None:
    withdrawals.withdraw(registered, "a", "ann", "wrong date", NAMES)
    registered.ingestion.update_one({"_id": "b"}, {"$set": {"registered_at": MOMENT}})
    registered.ingestion.update_one(
        {"_id": "a"}, {"$set": {"registered_at": MOMENT + timedelta(days=1), "withdrawn.at": MOMENT + timedelta(days=2)}}
    )
    with pytest.raises(withdrawals.NoIngestion) as missing:
        withdrawals.withdraw(registered, "x", "ann", "", NAMES)
    wording.check(str(missing.value), "missing")
    assert str(missing.value).endswith(withdrawals.choices(registered))
    assert withdrawals.listing(registered) in withdrawals.choices(registered)
    withdrawals.require_none(registered, ["b", "x"], NAMES)
    with pytest.raises(withdrawals.Withdrawn) as withdrawn:
        withdrawals.require_none(registered, ["b", "a"], NAMES)
    wording.check(str(withdrawn.value), "withdrawn")


def test_waiting_until_the_stream_uses_the_rules_in_force(registered: Database[Document], wording: Wording) -> None:
    ledger.start_generation(registered, RULES.fingerprint(), {})
    withdrawals.await_stream(registered, RULES, 0)
    withdrawals.withdraw(registered, "a", "ann", "", NAMES)
    assert control.read(registered).pause is None
    with pytest.raises(control.NotDone):
        withdrawals.await_stream(registered, RULES, 0)
    since = control.pause(registered, "ann").since
    with pytest.raises(control.NotDone) as paused:
        withdrawals.await_stream(registered, RULES, 60)
    wording.check(str(paused.value), since=f"{since:%Y-%m-%d %H:%M:%S}")
    control.resume(registered)
    ledger.start_generation(registered, withdrawals.in_force(registered, RULES).fingerprint(), {})
    withdrawals.await_stream(registered, RULES, 0)


def test_the_rules_cannot_change_during_a_rebuild(registered: Database[Document], wording: Wording) -> None:
    """Only the same rebuild can finish it, by the rules that it began with."""
    registered.state.update_one({"_id": "ledger"}, {"$set": {"rebuilding": 3}})
    with pytest.raises(withdrawals.Rebuilding) as refused:
        withdrawals.withdraw(registered, "a", "ann", "", NAMES)
    wording.check(str(refused.value))
    assert withdrawals.in_force(registered, RULES).withdrawn == ()
    assert control.read(registered).restarts == 0
    registered.state.update_one({"_id": "ledger"}, {"$set": {"rebuilding": None}})
    withdrawals.withdraw(registered, "a", "ann", "", NAMES)
    registered.state.update_one({"_id": "ledger"}, {"$set": {"rebuilding": 3}})
    with pytest.raises(withdrawals.Rebuilding):
        withdrawals.reinstate(registered, "a", NAMES)
    assert withdrawals.in_force(registered, RULES).withdrawn == ("a",)
