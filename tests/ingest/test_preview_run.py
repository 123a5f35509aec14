"""When a run only tries, goes on or holds for a person: the run's word first, else the settings' thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.csvs import OBSERVED_AT, csv_bytes, product
from support.names import NAMES
from support.places import Place
from support.wording import Wording

from tidemark.ingest import jobs
from tidemark.ingest.files import FileKind
from tidemark.rendering.previews import render_preview
from tidemark.serving import withdrawals
from tidemark.settings import Settings

pytestmark = pytest.mark.servers

LENIENT = Settings(hold_rejected_share=0.25)  # type: ignore[call-arg]
STRICT = Settings(hold_rejected_share=0.24)  # type: ignore[call-arg]


@pytest.fixture
def files(tmp_path: Path) -> list[jobs.File]:
    """Four rows, one of which is rejected."""
    rows = [product(number) for number in range(4)]
    rows[2][6] = "n/a | *dear*"
    (tmp_path / "a.csv").write_bytes(csv_bytes(rows))
    return [jobs.File(FileKind.PRODUCT, tmp_path / "a.csv", OBSERVED_AT)]


def in_markdown(path: object) -> str:
    return str(path).replace("_", r"\_")


@pytest.mark.parametrize(
    ("parameters", "of", "step"),
    [
        ({}, LENIENT, jobs.PLAN),
        ({}, STRICT, jobs.APPROVE),
        ({"hold": False}, STRICT, jobs.PLAN),
        ({"hold": True}, LENIENT, jobs.APPROVE),
        ({"dry_run": True}, LENIENT, None),
        ({"dry_run": True, "hold": True}, STRICT, None),
    ],
)
def test_the_next_step_depends_on_parameters_and_thresholds(
    place: Place, files: list[jobs.File], parameters: dict[str, Any], of: Settings, step: str | None
) -> None:
    decision = jobs.preview_run(place.database, files, parameters, of)
    assert decision.step == step
    if parameters.get("hold") is not False:
        assert decision.preview is not None
        assert decision.preview["shifts"] == {"rejected": 0.25, "products": None, "average_price": None}
        assert ("25.0%" in decision.text) == ("24.0%" in decision.text) == (of is STRICT)
    assert len(place.ends()) == place.database.ingestion.count_documents({}) == 0


def test_without_thresholds_rows_are_not_read(place: Place, tmp_path: Path) -> None:
    nothing = [jobs.File(FileKind.PRODUCT, tmp_path / "nothing.csv", OBSERVED_AT)]
    assert jobs.preview_run(place.database, nothing, {}, Settings()) == (jobs.PLAN, None, "")  # type: ignore[call-arg]
    assert jobs.preview_run(place.database, [], {"dry_run": True}, Settings()).step == jobs.PLAN  # type: ignore[call-arg]


def test_rendering_as_markdown(place: Place, files: list[jobs.File], wording: Wording) -> None:
    """What stands in a file is shown as it is, and neither ends a cell nor is read as Markdown."""
    decision = jobs.preview_run(place.database, files, {"dry_run": True}, LENIENT)
    assert decision.text == render_preview(decision.preview or {}, [])
    assert r"n/a \| \*dear\*" in decision.text
    path = in_markdown(files[0].path)
    wording.check(decision.text, path=path)
    wording.check(jobs.preview_run(place.database, files, {"dry_run": True}, STRICT).text, "beyond a threshold", path=path)


def test_a_withdrawn_file_is_reported(place: Place, files: list[jobs.File], wording: Wording) -> None:
    """It is said before the run that it would be refused."""
    before = jobs.preview_run(place.database, files, {"dry_run": True}, LENIENT)
    assert before.preview is not None
    assert before.preview["refused"] == []
    (identity,) = jobs.plan(place.database, files, 1_000, place.settings).ingestions
    withdrawn = withdrawals.withdraw(place.database, identity, "ann", "the *wrong* file", NAMES)
    moment = f"{withdrawn.at:%Y-%m-%d %H:%M}"
    decision = jobs.preview_run(place.database, files, {"dry_run": True}, LENIENT)
    assert r"the \*wrong\* file" in decision.text
    wording.check(decision.text, "preview", path=in_markdown(files[0].path), ingestion=identity, moment=moment)
    with pytest.raises(withdrawals.Withdrawn) as refused:
        jobs.plan(place.database, files, 1_000, place.settings)
    assert decision.preview is not None
    assert decision.preview["refused"] == [str(refused.value)]
    wording.check(str(refused.value), "plan", ingestion=identity, moment=moment)


def test_columns_of_the_run_override_the_settings(wording: Wording) -> None:
    of = Settings(columns={"price": "Price"})  # type: ignore[call-arg]
    assert jobs.columns({}, of) == {"price": "Price"}
    assert jobs.columns({"columns": {"title": "Name"}}, of) == {"title": "Name"}
    with pytest.raises(jobs.InvalidParameters) as refused:
        jobs.columns({"columns": {"prize": "Price"}}, of)
    wording.check(str(refused.value))
