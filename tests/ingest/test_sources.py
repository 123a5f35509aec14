"""Which files a run may read: those under the folders and URLs that were named, wherever links lead."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.wording import Wording

from tidemark.ingest import sources
from tidemark.ingest.jobs import files_of
from tidemark.ingest.sources import ForbiddenFile
from tidemark.settings.sections import IngestionSettings

URLS = ("s3://bucket/in/a.csv", "s3://bucket/in/2024/a.csv", "s3://bucket/in")
OTHER_URLS = (
    *("s3://bucket/in2/a.csv", "s3://bucket/in/../secret.csv", "s3://other/in/a.csv", "ftp://bucket/in/a.csv", "http://127.0.0.1:8080/"),
    *("simplecache::s3://bucket/in/a.csv", "zip://a.csv::s3://bucket/in/a.zip", "s3://bucket", "s3://account@bucket/in/a.csv"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a folder `in`, and beside it a file that is to stay unread, which a link within `in` leads to."""
    (tmp_path / "in" / "day").mkdir(parents=True)
    (tmp_path / "in" / "a.csv").touch()
    (tmp_path / "secret.csv").touch()
    (tmp_path / "in" / "link.csv").symlink_to(tmp_path / "secret.csv")
    (tmp_path / "in" / "elsewhere").symlink_to(tmp_path)
    (tmp_path / "another-in").symlink_to(tmp_path / "in")
    return tmp_path


def of(folder: Path, **settings: str) -> IngestionSettings:
    return IngestionSettings(home=folder / "home", **settings)


@pytest.mark.parametrize("name", ["in/a.csv", "in/day/gone.csv", "in/../in/a.csv", "another-in/a.csv"])
def test_files_under_a_root_may_be_read(folder: Path, name: str) -> None:
    for scheme in ("", "file://", "local://"):
        sources.require_allowed(f"{scheme}{folder}/{name}", of(folder, ingest_from=f"s3://bucket/in, {folder}/in"))


@pytest.mark.parametrize(
    "name", ["secret.csv", "in/link.csv", "in/../secret.csv", "in/elsewhere/secret.csv", "in2/a.csv", "in/elsewhere/in2"]
)
def test_other_files_may_not_be_read(folder: Path, name: str) -> None:
    for scheme in ("", "file://", "local://", "simplecache::", "file://x@"):
        with pytest.raises(ForbiddenFile):
            sources.require_allowed(f"{scheme}{folder}/{name}", of(folder, ingest_from=f"{folder}/in"))


def test_a_home_folder_is_not_the_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder / "in")
    sources.require_allowed("a.csv", of(folder, ingest_from=f"{folder}/in"))
    with pytest.raises(ForbiddenFile):
        sources.require_allowed("~/secret.csv", of(folder, ingest_from=f"{folder}/in"))


def test_urls_under_a_root_may_be_read(folder: Path) -> None:
    for root in ("s3://bucket/in", "s3://bucket/in/"):
        for url in URLS:
            sources.require_allowed(url, of(folder, ingest_from=root))
        for url in OTHER_URLS:
            with pytest.raises(ForbiddenFile):
                sources.require_allowed(url, of(folder, ingest_from=root))


def test_roots_are_by_default_those_that_were_given(folder: Path, wording: Wording) -> None:
    usual = of(folder)
    with pytest.raises(ForbiddenFile) as refused:
        sources.require_allowed("/proc/self/environ", usual)
    wording.check(str(refused.value), catalogs=folder / "home" / "catalogs")
    sources.require_allowed(f"{folder}/home/catalogs/20-rows-1-days/products.csv", usual)

    for pattern in (f"{folder}/in/{{day}}/a.csv", f"{folder}/in/products_{{day}}.csv", f"{folder}/in/*/a.csv"):
        sources.require_allowed(f"{folder}/in/a.csv", of(folder, products_pattern=pattern))
        with pytest.raises(ForbiddenFile):
            sources.require_allowed(f"{folder}/secret.csv", of(folder, categories_pattern=pattern))

    # Named on the command line; of no account where there is a setting.
    for _ in range(2):
        sources.add_folders(usual, [f"{folder}/in", f"{folder}/in", "s3://bucket/in"])
    assert usual.added_folders.read_text() == f"{folder}/in\ns3://bucket/in\n"
    sources.require_allowed(f"{folder}/in/a.csv", usual)
    sources.require_allowed(URLS[0], usual)
    with pytest.raises(ForbiddenFile):
        sources.require_allowed(URLS[0], of(folder, ingest_from=f"{folder}/in"))


def test_a_pattern_finds_no_link_to_another_folder(folder: Path) -> None:
    def found(pattern: str) -> list[str]:
        settings = of(folder, products_pattern=f"{folder}/{pattern}", ingest_from=f"{folder}/in")
        return [one.path.name for one in files_of("2024-01-01", {}, settings, sources.allowed(settings, Path))]

    assert found("in/a*.csv") == ["a.csv"]
    with pytest.raises(ForbiddenFile, match=r"link\.csv"):
        found("in/*.csv")
    with pytest.raises(ForbiddenFile):
        files_of(None, {"products": [f"{folder}/gone.csv"], "observed_at": ["2024-01-01"]}, of(folder), sources.allowed(of(folder), Path))
