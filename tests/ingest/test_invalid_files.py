"""Files that are refused as a whole, and files that are others when their chunks are produced: each says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.csvs import BOM, OBSERVED_AT, MemoryFile, categories, products
from support.wording import Wording

from tidemark.ingest.files import CATEGORY_COLUMNS, MAX_RECORD_BYTES, PRODUCT_COLUMNS, FileKind, InvalidFile
from tidemark.ingest.plan import plan
from tidemark.ingest.produce import read_chunk

HEADER = ",".join(PRODUCT_COLUMNS).encode()
ROW = products(1).partition(b"\n")[2]
UNCLOSED = ROW.replace(b'"Lamp, 0"', b'"Lamp, 0')

INVALID_FILES = {
    "empty": b"",
    "empty but for a BOM": BOM,
    "empty lines only": b"\r\n\n\r",
    "a header only": HEADER,
    "a header and empty lines": BOM + HEADER + b"\r\n\r\n",
    "no header": ROW * 2,
    "a column is missing": HEADER.replace(b",price", b"") + b"\n" + ROW,
    "a column in other letters": HEADER.replace(b"imgUrl", b"imgURL") + b"\n" + ROW,
    "another separator": HEADER.replace(b",", b":") + b"\n" + ROW,
    "categories": categories(3),
    "a column twice": HEADER + b",price,title\n" + ROW,
    "a date": HEADER + b",date\n" + ROW,
    "a header in Latin-1": HEADER + b",gr\xf6\xdfe\n" + ROW,
    "UTF-16": (HEADER + b"\n" + ROW).decode().encode("utf-16"),
    "an unclosed quotation mark": HEADER + b"\n" + ROW + UNCLOSED + ROW.replace(b'"', b"") * (MAX_RECORD_BYTES // 100),
    "an unclosed quotation mark in the header": b'"' + HEADER + b"\n" + b"x\n" * MAX_RECORD_BYTES,
    "no text": bytes(2 * MAX_RECORD_BYTES),
}


@pytest.mark.parametrize("what", INVALID_FILES)
def test_invalid_files_are_refused(what: str, wording: Wording) -> None:
    with pytest.raises(InvalidFile) as refused:
        plan(MemoryFile(INVALID_FILES[what]), FileKind.PRODUCT, OBSERVED_AT, 100)
    wording.check(str(refused.value))


def test_a_product_file_is_refused_as_a_category_file(wording: Wording) -> None:
    with pytest.raises(InvalidFile) as refused:
        plan(MemoryFile(products(3)), FileKind.CATEGORY, OBSERVED_AT, 100)
    wording.check(str(refused.value))


def test_an_unclosed_quotation_mark_in_a_short_file_makes_one_record() -> None:
    """As csv.reader reads it. It is ragged, so it goes as it came, and validation says so."""
    content = ",".join(CATEGORY_COLUMNS).encode() + b'\n1,a\n"2,b\n3,c\n'
    assert plan(MemoryFile(content), FileKind.CATEGORY, OBSERVED_AT, 100).ingestion["rows"] == 2


def _swapped(content: bytes) -> bytes:
    """As long as before: the last row's price is another."""
    return content[::-1].replace(b"5.21", b"6.21", 1)[::-1]


CHANGES: dict[str, Callable[[bytes], bytes | None]] = {
    "same length": _swapped,
    "rows more": lambda content: content + ROW,
    "a row less": lambda content: content.removesuffix(ROW),
    "cut short": lambda content: content[:50],
    "empty": lambda content: b"",
    "gone": lambda content: None,
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_file_changed_since_planning_is_refused(what: str, tmp_path: Path, wording: Wording) -> None:
    file = tmp_path / "products.csv"
    content = products(20) + ROW
    file.write_bytes(content)
    planned = plan(file, FileKind.PRODUCT, OBSERVED_AT, 1_000)
    last = planned.chunks[-1]
    assert len(planned.chunks) > 2
    assert read_chunk(file, planned.ingestion["bytes"], last) == content[last.start : last.end]

    changed = CHANGES[what](content)
    assert changed != content
    if changed is None:
        file.unlink()
    else:
        file.write_bytes(changed)
    with pytest.raises(InvalidFile) as refused:
        read_chunk(file, planned.ingestion["bytes"], last)
    wording.check(str(refused.value))
