"""How large everything is, and how it grows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pymongo.database import Database
from support.wording import Wording

from tidemark.rendering.sizes import render_sizes
from tidemark.serving import schema, sizes
from tidemark.serving.database import Document
from tidemark.serving.sizes import Size

pytestmark = pytest.mark.servers

SUNDAY, NEXT = datetime(2024, 3, 3, 5, tzinfo=UTC), datetime(2024, 3, 10, 5, tzinfo=UTC)


def test_growth_is_computed_from_the_previous_measurement(database: Database[Document], wording: Wording) -> None:
    sizes.keep(database, NEXT, {"lake: events": Size(3_500_000, 5), "folder new": Size(0, 0), "folder kafka": Size(1_000_000, 9)})
    for bytes_there in (7_000_000, 1_000_000):  # a task that is cleared measures again
        sizes.keep(database, SUNDAY, {"lake: events": Size(bytes_there, 2), "folder kafka": Size(2_500_000, 9)})
    wording.check("\n".join(render_sizes(sizes.measured(database, SUNDAY))), "on the first Sunday")
    wording.check("\n".join(render_sizes(sizes.measured(database, NEXT))), "on the next")


def test_sizes_of_collections_and_folders_are_measured(database: Database[Document], tmp_path: Path) -> None:
    for name in ("kafka", "mongodb"):
        (tmp_path / name).mkdir()
    (tmp_path / "supervisor.pid").write_text("1")
    measured = sizes.measure(database, SUNDAY, tmp_path, {"lake: events": Size(1, 2)})
    found = {one["part"]: one for one in database.report_size.find()}
    assert found.keys() >= {"lake: events", *(f"collection {one.name}" for one in schema.COLLECTIONS)}
    assert {part for part in found if part.startswith("folder ")} == {"folder kafka", "folder mongodb"}
    assert len(measured) == len(found)
    assert found["collection state"]["items"] == database.state.count_documents({})
    assert found["collection state"]["bytes"] > 0


def test_a_sparse_file_counts_its_allocated_size(tmp_path: Path) -> None:
    (tmp_path / "kafka" / "log").mkdir(parents=True)
    (tmp_path / "kafka" / "log" / "some").write_bytes(b"x" * 100_000)
    with (tmp_path / "kafka" / "log" / "index").open("wb") as index:
        index.truncate(100_000_000)
    (tmp_path / "file").touch()
    (tmp_path / "kafka" / "gone").symlink_to(tmp_path / "nowhere")
    assert sizes.of_folders(tmp_path / "not there") == {}
    ((name, size),) = sizes.of_folders(tmp_path).items()
    assert (name, size.items) == ("folder kafka", 2)
    assert 100_000 <= size.bytes < 1_000_000
