"""Backups: what comes back, and what is refused before anything is changed. That of a stack at work is tested in tests/containers."""

from __future__ import annotations

from pathlib import Path

import pytest
from pymongo.database import Database
from support.databases import a_database
from support.wording import Wording

from tidemark.serving import backup, ledger
from tidemark.serving.backup import NotRestored, NotSaved
from tidemark.serving.database import Document
from tidemark.serving.lease import BATCH, lease

pytestmark = pytest.mark.servers

LAYERS = {"_id": {"$not": {"$regex": "^lease |^log_end$"}}}


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A folder like the raw history's."""
    table = tmp_path / "lake" / "events"
    table.mkdir(parents=True)
    (table / "part-0.parquet").write_bytes(b"events")
    return tmp_path / "lake"


@pytest.fixture
def saved(database: Database[Document], lake: Path, tmp_path: Path) -> Path:
    database.state.update_one({"_id": "log_end"}, {"$set": {"offsets": []}}, upsert=True)
    manifest = backup.save(database, str(lake), tmp_path / "saved")
    assert manifest["documents"]["state"] == database.state.count_documents(LAYERS)
    return tmp_path / "saved"


def test_a_backup_is_restored_unchanged_any_number_of_times(database: Database[Document], lake: Path, saved: Path, tmp_path: Path) -> None:
    with a_database(f"{database.name}_other") as other:
        other.state.delete_one({"_id": "served"})
        for _ in range(2):
            backup.restore(other, str(tmp_path / "new"), saved)
        saved_ledger = database.state.find_one({"_id": "ledger"}) or {}
        restored = ledger.read(other)
        assert restored.generation > saved_ledger["generation"]
        assert restored.committed == {restored.generation: 0}
        own = {"generation": restored.generation, "committed": {str(restored.generation): 0}}
        kept = [one for one in other.state.find(LAYERS) if one["_id"] != "publications"]
        assert kept == [{**one, **own} if one["_id"] == "ledger" else one for one in database.state.find(LAYERS)]
        assert list(other.publication.find()) == list(database.publication.find())
    assert (tmp_path / "new" / "events" / "part-0.parquet").read_bytes() == b"events"


def test_a_backup_waits_for_a_batch_job(database: Database[Document], lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "BATCH_SECONDS", 0.2)
    with lease(database, BATCH, "a night", 0), pytest.raises(backup.Busy) as busy:
        backup.save(database, str(lake), tmp_path / "saved")
    assert "a night" in str(busy.value)
    assert not (tmp_path / "saved").exists()


def test_a_backup_refuses_a_folder_that_is_not_empty(database: Database[Document], lake: Path, saved: Path, wording: Wording) -> None:
    with pytest.raises(NotSaved) as refused:
        backup.save(database, str(lake), saved)
    wording.check(str(refused.value))


def test_restoring_is_refused_while_a_stream_runs(database: Database[Document], saved: Path, tmp_path: Path, wording: Wording) -> None:
    ledger.start_generation(database, "rules", {})
    before = list(database.state.find())
    with pytest.raises(NotRestored) as refused:
        backup.restore(database, str(tmp_path / "new"), saved)
    wording.check(str(refused.value))
    assert list(database.state.find()) == before


def test_restoring_over_another_raw_history_is_refused(database: Database[Document], saved: Path, lake: Path, wording: Wording) -> None:
    (lake / "events" / "part-1.parquet").write_bytes(b"more")
    with pytest.raises(NotRestored) as refused:
        backup.restore(database, str(lake), saved)
    wording.check(str(refused.value))
    assert sorted(path.name for path in (lake / "events").iterdir()) == ["part-0.parquet", "part-1.parquet"]


@pytest.mark.parametrize("wrong", ["manifest.json", "mongodb/state.bson", "lake/events/part-0.parquet"])
def test_an_incomplete_backup_is_refused(database: Database[Document], saved: Path, tmp_path: Path, wrong: str, wording: Wording) -> None:
    (saved / wrong).unlink()
    with pytest.raises(NotRestored) as refused:
        backup.restore(database, str(tmp_path / "new"), saved)
    wording.check(str(refused.value))
    assert not (tmp_path / "new").exists()
