"""Synthetic catalogs: the same for the same arguments, with every quirk of real ones, written without holding them in memory."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from support.csvs import OBSERVED_AT, REGISTERED_AT, MemoryFile, csv_bytes
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.observations import Reason, Rejection, product_observation
from tidemark.ingest import generate
from tidemark.ingest.files import PRODUCT_COLUMNS, FileKind
from tidemark.ingest.plan import plan
from tidemark.ingest.records import Origin, messages

ROWS, SEED = 20_000, 1
FIRST = date(2024, 2, 28)


def written(folder: Path, rows: int = 300, days: int = 3, seed: int = SEED) -> dict[str, bytes]:
    """Content by file name."""
    return {path.name: path.read_bytes() for path in generate.write(rows, days, seed, folder, FIRST)}


@pytest.fixture(scope="module")
def first_day() -> list[list[str]]:
    return list(generate.day_rows(ROWS, SEED, day=0))


@pytest.fixture(scope="module")
def second_day() -> list[list[str]]:
    return list(generate.day_rows(ROWS, SEED, day=1))


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path, wording: Wording) -> None:
    """In another process too, where strings hash otherwise."""
    here = written(tmp_path / "here")
    command = [sys.executable, "-m", "tidemark.ingest.generate", "--rows", "300", "--days", "3", "--seed", "1", "--first-day", "2024-02-28"]
    done = subprocess.run([*command, "--out", str(tmp_path / "there")], capture_output=True, text=True, check=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()} == here
    printed = re.findall(r"(\S+\.csv)\D+([0-9]+)\D+([0-9.]+)", done.stdout)
    assert [(Path(path).name, int(size)) for path, size, _ in printed] == [(name, len(content)) for name, content in here.items()]
    wording.check(re.sub(r"[0-9.]+(?= (bytes|s)\b)", "<number>", done.stdout))
    assert list(here) == ["categories.csv", "products_2024-02-28.csv", "products_2024-02-29.csv", "products_2024-03-01.csv"]


def test_another_seed_or_day_gives_other_bytes(tmp_path: Path) -> None:
    one, other = written(tmp_path / "one"), written(tmp_path / "other", seed=2)
    assert {name for name in one if one[name] == other[name]} == {"categories.csv"}
    assert len(set(one.values())) == 4


def test_files_are_valid_and_share_a_prefix_for_any_number_of_rows(tmp_path: Path) -> None:
    files = written(tmp_path / "a")
    for name, content in files.items():
        kind = FileKind.CATEGORY if name == "categories.csv" else FileKind.PRODUCT
        planned = plan(MemoryFile(content), kind, OBSERVED_AT, 10_000)
        assert tuple(planned.ingestion["columns"]) == kind.columns
        assert content.endswith(b"\n")
        assert b"\r" not in content
    shorter = written(tmp_path / "b", rows=100)
    assert files["products_2024-02-28.csv"].startswith(shorter["products_2024-02-28.csv"])


Rows = list[list[str]]

QUIRKS: dict[str, Callable[[list[str]], bool]] = {
    "price unknown": lambda row: row[6] == "0.0",
    "price above the last level": lambda row: row[6] != "n/a" and 300 < float(row[6]) < 1_000,
    "price far above": lambda row: row[6] != "n/a" and 10_000 < float(row[6]) <= 19_731.81,
    "no list price": lambda row: row[7] == "0.0",
    "discounted": lambda row: row[6] != "n/a" and float(row[7]) > float(row[6]) > 0,
    "unrated": lambda row: row[4] == "0.0",
    "rated": lambda row: 0 < float(row[4]) <= 5,
    "no reviews": lambda row: row[5] == "0",
    "reviews": lambda row: int(row[5]) > 1_000,
    "title NULL": lambda row: row[1] == "NULL",
    "title with a comma": lambda row: "," in row[1],
    "title with a quotation mark": lambda row: '"' in row[1],
    "title not ASCII": lambda row: not row[1].isascii(),
    "title of two lines": lambda row: "\n" in row[1],
    "unknown category": lambda row: row[8] == "999",
    "best seller": lambda row: row[9] == "True",
    "no best seller": lambda row: row[9] == "False",
}


@pytest.mark.parametrize("quirk", QUIRKS)
def test_every_quirk_occurs(quirk: str, first_day: Rows) -> None:
    found = sum(map(QUIRKS[quirk], (row for row in first_day if len(row) == len(PRODUCT_COLUMNS))))
    assert 0 < found < len(first_day)


def test_bought_in_last_month_is_rounded_down(first_day: Rows) -> None:
    floors = Counter(row[10] for row in first_day if len(row) == len(PRODUCT_COLUMNS))
    assert floors.keys() >= {"0", "50", *(str(hundreds * 100) for hundreds in range(1, 11)), "2000"}
    assert all(floor == "50" or int(floor) % 100 == 0 for floor in floors)


def test_some_products_occur_twice_with_another_price(first_day: Rows) -> None:
    rows: dict[str, Rows] = {}
    for row in first_day:
        rows.setdefault(row[0].upper(), []).append(row)
    assert len(rows) == ROWS, "each product has an ASIN of its own"
    twice = [those for those in rows.values() if len(those) == 2]
    assert 10 < len(twice) < 100
    assert sum(first[6] != second[6] for first, second in twice) > len(twice) / 2
    assert max(map(len, rows.values())) == 2


def validated(rows: Rows) -> Counter[Reason | None]:
    """How many rows are rejected for each reason, none of the reasons being None."""
    content = csv_bytes(rows)
    planned = plan(MemoryFile(content), FileKind.PRODUCT, OBSERVED_AT, 10**9)
    origin = Origin(planned.ingestion["_id"], FileKind.PRODUCT, tuple(planned.ingestion["columns"]), OBSERVED_AT, REGISTERED_AT)
    (chunk,) = planned.chunks
    reasons: Counter[Reason | None] = Counter()
    for key, value, headers in messages(content[chunk.start : chunk.end], chunk.start, origin):
        named = tuple((name, one.encode() if isinstance(one, str) else one) for name, one in headers)
        seen = product_observation(Event("ingest-product", 0, 0, 1_700_000_000_000, key, value, named))
        reasons[seen.reason if isinstance(seen, Rejection) else None] += 1
    return reasons


def test_few_rows_are_invalid_in_each_way(first_day: Rows, second_day: Rows) -> None:
    rows = [*first_day, *second_day]
    broken = [row for row in rows if len(row) != 11 or not row[0].isupper() or row[4] == "11" or row[6] == "n/a" or row[8] == ""]
    assert 10 <= len(broken) <= 40
    assert validated(broken).keys() == {Reason.MALFORMED, Reason.ASIN, Reason.PRICE, Reason.STARS, Reason.CATEGORY_ID}
    assert validated([row for row in rows[::20] if row not in broken]).keys() == {None}


def test_the_next_day_some_products_are_repriced_moved_or_removed(first_day: Rows, second_day: Rows) -> None:
    before, after = ({row[0]: row for row in day if len(row) == len(PRODUCT_COLUMNS)} for day in (first_day, second_day))
    both = before.keys() & after.keys()
    changed = Counter(
        column for asin in both for column, *pair in zip(PRODUCT_COLUMNS, before[asin], after[asin], strict=True) if pair[0] != pair[1]
    )
    assert 0.005 * ROWS < len(before.keys() - both) < 0.02 * ROWS
    assert 0.25 * ROWS < changed["price"] < 0.35 * ROWS
    assert 0.003 * ROWS < changed["category_id"] < 0.007 * ROWS
    dearer = sum(float(after[asin][6]) > float(before[asin][6]) for asin in both if "n/a" not in (after[asin][6], before[asin][6]))
    assert 0.3 < dearer / changed["price"] < 0.7
    assert changed.keys() <= {"price", "category_id", "stars"}, "stars of broken rows only"
    assert changed["stars"] < 20


def test_generated_categories() -> None:
    those = list(generate.categories())
    assert [int(number) for number, _ in those] == list(range(1, 249))
    assert len({name for _, name in those}) == 248
    assert any("," in name for _, name in those)
    assert not all(name.isascii() for _, name in those)
    assert str(generate.UNKNOWN_CATEGORY) not in dict(those)


def test_every_category_has_products(first_day: Rows) -> None:
    assert {str(number) for number in range(1, 249)} <= {row[8] for row in first_day if len(row) == len(PRODUCT_COLUMNS)}


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    """In a process of its own, because threads of other tests take memory too."""

    def peak(rows: int) -> int:
        code = (
            "import sys, tracemalloc; from datetime import date; from pathlib import Path; from tidemark.ingest import generate; "
            "tracemalloc.start(); "
            f"assert len(list(generate.write({rows}, 1, {SEED}, Path(sys.argv[1]), date.fromisoformat('{FIRST}')))) == 2; "
            "print(tracemalloc.get_traced_memory()[1])"
        )
        command = [sys.executable, "-c", code, str(tmp_path / str(rows))]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    small = peak(1_000)
    assert small > 10_000
    assert peak(20_000) < small * 1.2


ERRORS = {
    "no folder": [],
    "no rows": ["--out", "x", "--rows", "0"],
    "no days": ["--out", "x", "--days", "0"],
    "words": ["--out", "x", "--rows", "many"],
    "no date": ["--out", "x", "--first-day", "2024-02-30"],
}


@pytest.mark.parametrize("what", ERRORS)
def test_invalid_arguments_are_refused(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wording: Wording
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate", *ERRORS[what]])
    with pytest.raises(SystemExit) as ended:
        generate.main()
    assert ended.value.code == 2
    *_, message = capsys.readouterr().err.splitlines()
    wording.check(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "arguments"),
    [("file", []), ("file/folder", []), ("new", ["--first-day", "9999-12-31"])],
    ids=["a file", "a folder in a file", "days beyond the calendar"],
)
def test_an_unwritable_folder_is_reported(
    out: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wording: Wording
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["generate", "--rows", "2", "--days", "2", "--out", str(tmp_path / out), *arguments])
    assert generate.main() == 1
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    wording.check(message)
    assert list(tmp_path.rglob("*.part")) == []
