"""A database of an earlier layout is refused until it is upgraded; one of a later layout is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pymongo.database import Database
from support.databases import a_database
from support.environment import setting
from support.layouts import CATEGORIES, PRODUCTS, fill, saved
from support.wording import Wording

from tidemark.serving import backup, ingestions, ledger, publications, schema, upgrades
from tidemark.serving.bindings import Binding
from tidemark.serving.database import Document
from tidemark.serving.layout import LAYOUT, OtherLayout
from tidemark.serving.snapshot import snapshot

pytestmark = pytest.mark.servers


@pytest.fixture
def former(servers: None, tmp_path: Path) -> Iterator[Database[Document]]:
    """A database of the first layout."""
    with a_database("former") as found:
        found.client.drop_database(found.name)
        fill(found, saved(1, tmp_path))
        yield found


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(OtherLayout) as raised:
        action()
    return str(raised.value)


def test_an_earlier_layout_is_upgraded_on_request_only(
    former: Database[Document], wording: Wording, caplog: pytest.LogCaptureFixture
) -> None:
    before = former.state.find_one({"_id": "ledger"}) or {}
    wording.check(refused(lambda: ledger.read(former)), "read")
    assert former.name in refused(lambda: schema.prepare(former))
    assert former.state.find_one({"_id": "ledger"}) == before
    with setting(database=former.name), caplog.at_level("INFO"):
        assert schema.main(["--check"]) == 1
        assert schema.main([]) == 1
        wording.check("\n".join(one.what for one in upgrades.UPGRADES), "what is changed")
        assert all(one.what in caplog.text for one in upgrades.UPGRADES)
        assert former.state.find_one({"_id": "ledger"}) == before
        assert schema.main(["--upgrade"]) == 0
        assert schema.main(["--check"]) == 0
    now = ledger.read(former)
    assert now.binding == Binding(topics=before["topics"])
    assert now.binding.topics.keys() == {PRODUCTS, CATEGORIES}
    assert now.generation == before["generation"] + 1, "a stream of the former version is fenced off"
    assert (now.committed, now.witness) == ({int(one): number for one, number in before["committed"].items()}, {})
    assert upgrades.upgrade(former) == []
    assert schema.differences(former) == []
    with snapshot(former) as view:
        (summary,) = view.rows("report_summary")
    assert summary["products"] == former.product.count_documents({}) > 50
    assert publications.served(former) == 1
    assert ingestions.epoch(former) == 0


def test_a_backup_of_an_earlier_layout_is_restored(database: Database[Document], tmp_path: Path) -> None:
    backup.restore(database, str(tmp_path / "lake"), saved(1, tmp_path))
    assert (database.state.find_one({"_id": "ledger"}) or {})["layout"] == LAYOUT
    assert schema.differences(database) == []
    assert database.state.find_one({"_id": "sending"}) is not None
    assert database.product.count_documents({}) > 50
    assert {path.name for path in (tmp_path / "lake").iterdir()} == {"events", "states"}


def test_a_later_layout_is_refused(database: Database[Document], wording: Wording) -> None:
    database.state.update_one({"_id": "ledger"}, {"$set": {"layout": LAYOUT + 1}})
    for action in (lambda: ledger.read(database), lambda: ledger.start_generation(database, "rules", {})):
        wording.check(refused(action))
    refused(lambda: schema.prepare(database))
    assert upgrades.upgrade(database) == []
