"""Which files a run is about, and as of when: named ones, or those that the patterns of the settings find for its day."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.wording import Wording

from tidemark.ingest.jobs import MOMENT_PATTERN, InvalidParameters, files_of
from tidemark.settings import Settings

DAY = "2024-02-29"
FILES = (
    *("2024-02-29/products_a.csv", "2024-02-29/products_b.csv", "2024-02-29/categories.csv", "2024-02-29/products_c.csv.gz"),
    *("2024-03-01/products_a.csv", "shops/north/2024-02-29.csv", "shops/south/2024-02-29.csv", "shops/south/deep/2024-02-29.csv"),
    *("products_2024-02-29.csv", "2024-02-29/products_folder.csv/inside.csv"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files, the working folder too."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(day: str | None, parameters: Mapping[str, Any], products: str = "", categories: str = "") -> list[tuple[str, str, str]]:
    """Kind, path and moment of each file."""
    settings = Settings(products_pattern=products, categories_pattern=categories)  # type: ignore[call-arg]
    return [
        (str(kind), str(path), f"{observed_at:%Y-%m-%d %H:%M}") for kind, path, observed_at in files_of(day, parameters, settings, Path)
    ]


PATTERNS = {
    "{folder}/{{day}}/products_a.csv": ["2024-02-29/products_a.csv"],
    "{folder}/{{day}}/products_*.csv": ["2024-02-29/products_a.csv", "2024-02-29/products_b.csv"],
    "{folder}/{{day}}/products_?.csv": ["2024-02-29/products_a.csv", "2024-02-29/products_b.csv"],
    "{folder}/{{day}}/products_[b-z].csv": ["2024-02-29/products_b.csv"],
    "{folder}/*/products_a.csv": ["2024-02-29/products_a.csv", "2024-03-01/products_a.csv"],
    "{folder}/shops/*/{{day}}.csv": ["shops/north/2024-02-29.csv", "shops/south/2024-02-29.csv"],
    "{folder}/shops/**/{{day}}.csv": ["shops/north/2024-02-29.csv", "shops/south/2024-02-29.csv", "shops/south/deep/2024-02-29.csv"],
    "{folder}/products_{{day}}.csv": ["products_2024-02-29.csv"],
    "products_{{day}}.csv": ["products_2024-02-29.csv"],
    "products_*.csv": ["products_2024-02-29.csv"],
    "{{day}}/products_a.csv": ["2024-02-29/products_a.csv"],
    "./{{day}}/products_[a].csv": ["2024-02-29/products_a.csv"],
    "{folder}/{{day}}/missing.csv": [],
    "{folder}/{{day}}/missing_*.csv": [],
    "{folder}/missing/{{day}}/*.csv": [],
    "{folder}/{{day}}": [],
    "": [],
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_find_the_files_of_a_day(pattern: str, folder: Path) -> None:
    """Files only, by name; a pattern without a folder is about the working folder, as any path is."""
    those = found(DAY, {}, products=pattern.format(folder=folder))
    prefix = f"{folder}/" if "{folder}" in pattern else ""
    assert those == [("product", f"{prefix}{name}", "2024-02-29 00:00") for name in PATTERNS[pattern]]


def test_a_pattern_with_wildcards_in_the_first_folder(folder: Path) -> None:
    """Nothing but the pattern's first folder is fixed."""
    first, *others = folder.parts[1:]
    pattern = "/".join(["", f"{first[0]}*", *others, "products_*.csv"])
    assert found(DAY, {}, products=pattern) == [("product", f"{folder}/products_2024-02-29.csv", "2024-02-29 00:00")]


def test_categories_come_first(folder: Path) -> None:
    """Their names are then known when the products are served."""
    both = found(DAY, {}, products="{day}/products_b.csv", categories="{day}/cat*.csv")
    assert both == [("category", f"{DAY}/categories.csv", f"{DAY} 00:00"), ("product", f"{DAY}/products_b.csv", f"{DAY} 00:00")]
    named = found(DAY, {"products": [f"{DAY}/products_b.csv"], "categories": [f"{DAY}/categories.csv"]})
    assert named == both


def test_named_files_come_before_the_patterns(folder: Path) -> None:
    assert found(DAY, {"products": ["2024-03-01/products_a.csv"]}, products="{day}/*.csv", categories="{day}/*.csv") == [
        ("product", "2024-03-01/products_a.csv", "2024-02-29 00:00")
    ]


def test_one_date_for_all_files_or_one_each(folder: Path) -> None:
    products = ["2024-03-01/products_a.csv", "2024-02-29/products_b.csv"]
    one = found(None, {"products": products, "observed_at": ["2024-05-06T07:08:09.5+01:00"]})
    assert [date for *_, date in one] == ["2024-05-06 06:08"] * 2
    each = found(DAY, {"products": products, "categories": [f"{DAY}/categories.csv"], "observed_at": ["2024-03-01", "2024-02-29 12:00"]})
    assert each == [
        ("category", f"{DAY}/categories.csv", "2024-03-01 00:00"),
        ("product", "2024-03-01/products_a.csv", "2024-03-01 00:00"),
        ("product", "2024-02-29/products_b.csv", "2024-02-29 12:00"),
    ]


def test_files_of_a_day_can_have_another_date(folder: Path) -> None:
    assert found(DAY, {"observed_at": ["2024-02-28T18:00Z"]}, products="{day}/*_a.csv") == [
        ("product", f"{DAY}/products_a.csv", "2024-02-28 18:00")
    ]


def test_the_same_file_with_two_dates_counts_twice(folder: Path) -> None:
    twice = found(None, {"products": ["products_2024-02-29.csv"] * 2, "observed_at": ["2024-02-28", "2024-02-29"]})
    assert [date for *_, date in twice] == ["2024-02-28 00:00", "2024-02-29 00:00"]


INVALID_PARAMETERS: dict[str, tuple[str | None, dict[str, list[str]]]] = {
    "nothing is named, no day": (None, {}),
    "an empty day": ("", {}),
    "only a date": (None, {"observed_at": ["2024-01-01"]}),
    "no date": (None, {"products": ["a.csv"]}),
    "no date of categories": (None, {"categories": ["a.csv"], "observed_at": []}),
    "too few dates": (DAY, {"products": ["a", "b", "c"], "observed_at": ["2024-01-01", "2024-01-02"]}),
    "too many dates": (DAY, {"products": ["a"], "observed_at": ["2024-01-01", "2024-01-02"]}),
    "dates of categories": (DAY, {"categories": ["a"], "observed_at": ["2024-01-01", "2024-01-02"]}),
    "dates of a day's files": (DAY, {"observed_at": ["2024-01-01", "2024-01-02"]}),
    "no such day": ("2023-02-29", {}),
    "a key that is no day": ("all", {}),
    "an empty date": (DAY, {"products": ["a"], "observed_at": [""]}),
    "a date in words": (DAY, {"products": ["a"], "observed_at": ["yesterday"]}),
}


@pytest.mark.parametrize("what", INVALID_PARAMETERS)
def test_ambiguous_parameters_are_refused(what: str, folder: Path, wording: Wording) -> None:
    day, parameters = INVALID_PARAMETERS[what]
    with pytest.raises(InvalidParameters) as refused:
        found(day, parameters, products="{day}/*.csv")
    wording.check(str(refused.value))


def test_missing_files_are_named(folder: Path, wording: Wording) -> None:
    """All that are missing are named; a folder or a pattern is no file."""
    parameters = {"products": ["gone.csv", "products_2024-02-29.csv", "*.csv"], "categories": ["shops", f"{folder}/no/c.csv"]}
    with pytest.raises(FileNotFoundError) as refused:
        found(DAY, parameters)
    wording.check(str(refused.value))


def test_the_form_accepts_dates() -> None:
    valid = ("2024-01-01", "2024-01-01T10:00:00Z", "2024-01-01 10:00")
    invalid = ("", "01/02/2024", "2024-1-1", "2024-01-01T", "x2024-01-01", "2024-01-01x")
    assert [bool(re.search(MOMENT_PATTERN, text)) for text in (*valid, *invalid)] == [True] * len(valid) + [False] * len(invalid)
