"""Which files and dates `make run` hands to Airflow, and what it refuses before anything is started."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.wording import Wording

from tidemark.local import job
from tidemark.local.job import CannotRun
from tidemark.settings.sections import HomeSettings


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=500)


def _file(folder: Path, name: str, day: str = "2024-05-06") -> str:
    path = folder / name
    path.write_text("header\n")
    moment = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC).timestamp()
    os.utime(path, (moment, moment))
    return str(path)


def test_one_date_for_all_files(console: Console, tmp_path: Path) -> None:
    one, two, three = (_file(tmp_path, name) for name in ("1.csv", "2.csv", "3.csv"))
    conf = job._given(console, [one, two], [three], ["2023-12-31"])
    assert conf == {"products": [one, two], "categories": [three], "observed_at": ["2023-12-31"]}


def test_one_date_per_file(console: Console, tmp_path: Path) -> None:
    one, two = (_file(tmp_path, name) for name in ("1.csv", "2.csv"))
    assert job._given(console, [one, two], [], ["2023-12-31", "2024-01-01T10:00:00Z"])["observed_at"] == [
        "2023-12-31",
        "2024-01-01T10:00:00Z",
    ]


@pytest.mark.parametrize("dates", [["2023-12-30", "2023-12-31"], ["2023-12-30"] * 4], ids=["two", "four"])
def test_a_wrong_number_of_dates_is_refused(console: Console, tmp_path: Path, wording: Wording, dates: list[str]) -> None:
    files = [_file(tmp_path, name) for name in ("1.csv", "2.csv", "3.csv")]
    with pytest.raises(CannotRun) as refused:
        job._given(console, files, [], dates)
    wording.check(str(refused.value))


@pytest.mark.parametrize("date", ["2023-13-01", "yesterday", "2023-02-29"])
def test_a_missing_date(console: Console, tmp_path: Path, wording: Wording, date: str) -> None:
    with pytest.raises(CannotRun) as refused:
        job._given(console, [_file(tmp_path, "1.csv")], [], [date])
    wording.check(str(refused.value))


def test_without_a_date_the_files_modification_day_is_used_and_reported(console: Console, tmp_path: Path, wording: Wording) -> None:
    one, two = _file(tmp_path, "1.csv", "2024-05-06"), _file(tmp_path, "2.csv", "2024-05-07")
    assert job._given(console, [one, two], [_file(tmp_path, "3.csv")], [])["observed_at"] == ["2024-05-06", "2024-05-07"]
    wording.check(console.file.getvalue())


def test_categories_without_products_have_one_date(console: Console, tmp_path: Path) -> None:
    files = [_file(tmp_path, "1.csv", "2024-05-06"), _file(tmp_path, "2.csv", "2024-05-05")]
    assert job._given(console, [], files, []) == {"products": [], "categories": files, "observed_at": ["2024-05-06"]}


def test_a_remote_file_requires_a_date(console: Console, wording: Wording) -> None:
    with pytest.raises(CannotRun) as refused:
        job._given(console, ["s3://bucket/1.csv"], [], [])
    wording.check(str(refused.value))
    assert job._given(console, ["s3://bucket/1.csv"], [], ["2024-01-01"])["products"] == ["s3://bucket/1.csv"]


def test_a_missing_file(console: Console, tmp_path: Path, wording: Wording) -> None:
    with pytest.raises(CannotRun) as refused:
        job._given(console, [_file(tmp_path, "1.csv"), str(tmp_path / "none.csv")], [], ["2024-01-01"])
    wording.check(str(refused.value))


def test_a_folder_is_refused(console: Console, tmp_path: Path, wording: Wording) -> None:
    with pytest.raises(CannotRun) as refused:
        job._given(console, [str(tmp_path)], [], ["2024-01-01"])
    wording.check(str(refused.value))


def test_paths_are_made_absolute(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _file(tmp_path, "1.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert job._given(console, ["1.csv", "~/1.csv"], [], ["2024-01-01"])["products"] == [str(tmp_path / "1.csv")] * 2


@pytest.mark.parametrize("act", [job.run, job.dry_run])
@pytest.mark.parametrize("arguments", [{"observed_at": ["2024-01-01"]}, {"columns": {"price": "Price"}}], ids=["date", "columns"])
def test_a_date_or_columns_without_files_are_refused(
    console: Console, configure, wording: Wording, act: Any, arguments: dict[str, Any]
) -> None:
    nothing = job.Catalog(products=[], categories=[], observed_at=[], columns={}, rows=10, days=1)
    with pytest.raises(CannotRun) as refused:
        act(console, configure(), nothing._replace(**arguments))
    wording.check(str(refused.value))


def test_columns_are_passed_with_the_files(console: Console, tmp_path: Path) -> None:
    one = _file(tmp_path, "1.csv")
    catalog = job.Catalog([one], [], ["2024-01-01"], {"price": "Price"}, 10, 1)
    of = HomeSettings(home=tmp_path / "home")
    assert job._conf(console, of, catalog) == {
        "products": [one],
        "categories": [],
        "observed_at": ["2024-01-01"],
        "columns": {"price": "Price"},
    }
    assert "columns" not in job._conf(console, of, catalog._replace(columns={}))
    assert of.added_folders.read_text() == f"{tmp_path}\n", "runs may read its folder from now on"


def test_a_generated_catalog_has_one_date_per_file(console: Console, configure) -> None:
    catalogs = configure().catalogs
    folder = catalogs / "50-rows-3-days"
    conf = job._generated(console, catalogs, 50, 3)
    days = ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert conf == {
        "products": [str(folder / f"products_{day}.csv") for day in days],
        "categories": [str(folder / "categories.csv")],
        "observed_at": days,
    }
    assert all(Path(name).is_file() for name in conf["products"] + conf["categories"])


def test_a_generated_catalog_is_written_once(console: Console, configure) -> None:
    catalogs = configure().catalogs
    first, *_ = job._generated(console, catalogs, 50, 2)["products"]
    written = Path(first).stat().st_mtime_ns
    job._generated(console, catalogs, 50, 2)
    assert Path(first).stat().st_mtime_ns == written


def test_an_incomplete_generated_catalog_is_written_again(console: Console, configure) -> None:
    catalogs = configure().catalogs
    folder = catalogs / "50-rows-2-days"
    whole = [Path(name).read_bytes() for name in job._generated(console, catalogs, 50, 2)["products"]]
    (folder / ".whole").unlink()
    (folder / "products_2024-01-02.csv").unlink()
    (folder / "products_2024-01-01.csv").write_text("cut")
    assert [Path(name).read_bytes() for name in job._generated(console, catalogs, 50, 2)["products"]] == whole
