"""Files that are refused as a whole, and files that are others when their chunks are produced: each says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.csvs import BOM, OBSERVED_AT, MemoryFile, categories, products

from ingest.files import CATEGORY_COLUMNS, MOST_RECORD_BYTES, PRODUCT_COLUMNS, Kind, UnfitFile
from ingest.plan import plan
from ingest.produce import read_chunk

HEADER = ",".join(PRODUCT_COLUMNS).encode()
ROW = products(1).partition(b"\n")[2]
UNCLOSED = ROW.replace(b'"Lamp, 0"', b'"Lamp, 0')

UNFIT = {
    "empty": (b"", "it is empty: was it written to its end"),
    "empty but for a BOM": (BOM, "it is empty"),
    "empty lines only": (b"\r\n\n\r", "it is empty"),
    "a header only": (HEADER, "it has a header and no records: was it written to its end"),
    "a header and empty lines": (BOM + HEADER + b"\r\n\r\n", "it has a header and no records"),
    "no header": (ROW * 2, "column asin, title, imgUrl, .* is missing .*found: B0T0000000,Lamp, 0,"),
    "a column is missing": (HEADER.replace(b",price", b"") + b"\n" + ROW, "column price is missing .*needed: asin,title"),
    "a column in other letters": (HEADER.replace(b"imgUrl", b"imgURL") + b"\n" + ROW, "column imgUrl is missing"),
    "another separator": (HEADER.replace(b",", b":") + b"\n" + ROW, "column asin, title"),
    "categories": (categories(3), "not the header of a product file: column asin"),
    "a column twice": (HEADER + b",price,title\n" + ROW, "names column price, title twice: rename or remove"),
    "a date": (HEADER + b",date\n" + ROW, "has a column date, which the ingestion states: rename or remove"),
    "a header in Latin-1": (HEADER + b",gr\xf6\xdfe\n" + ROW, "the header is not UTF-8: save the file as UTF-8"),
    "UTF-16": ((HEADER + b"\n" + ROW).decode().encode("utf-16"), "the header is not UTF-8: save the file as UTF-8"),
    "an unclosed quotation mark": (
        HEADER + b"\n" + ROW + UNCLOSED + ROW.replace(b'"', b"") * (MOST_RECORD_BYTES // 100),
        f"the record at byte {len(HEADER + ROW) + 1} is longer than 1048576 bytes: does a quotation mark in it never close",
    ),
    "an unclosed quotation mark in the header": (b'"' + HEADER + b"\n" + b"x\n" * MOST_RECORD_BYTES, "the record at byte 0 is longer"),
    "no text": (bytes(2 * MOST_RECORD_BYTES), "the record at byte 0 is longer than 1048576 bytes: .* is it no CSV file"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_refused(what: str) -> None:
    content, reason = UNFIT[what]
    with pytest.raises(UnfitFile, match=rf"^memory/rows.csv: .*{reason}.*Nothing of it has been sent$"):
        plan(MemoryFile(content), Kind.PRODUCT, OBSERVED_AT, 100)


def test_a_product_file_is_no_category_file() -> None:
    with pytest.raises(UnfitFile, match="not the header of a category file: column id, category_name is missing"):
        plan(MemoryFile(products(3)), Kind.CATEGORY, OBSERVED_AT, 100)


def test_a_quotation_mark_that_never_closes_in_a_short_file_is_one_record() -> None:
    """As csv.reader reads it. It is ragged, so it goes as it came, and validation says so."""
    content = ",".join(CATEGORY_COLUMNS).encode() + b'\n1,a\n"2,b\n3,c\n'
    assert plan(MemoryFile(content), Kind.CATEGORY, OBSERVED_AT, 100).ingestion.rows == 2


def _swapped(content: bytes) -> bytes:
    """As long as before: the last row's price is another."""
    return content[::-1].replace(b"5.21", b"6.21", 1)[::-1]


CHANGES: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "same length": (_swapped, "bytes [0-9]+ to [0-9]+ are others"),
    "rows more": (lambda content: content + ROW, r"[0-9]+ bytes, not [0-9]+"),
    "a row less": (lambda content: content.removesuffix(ROW), r"[0-9]+ bytes, not [0-9]+"),
    "cut short": (lambda content: content[:50], r"50 bytes, not [0-9]+"),
    "empty": (lambda content: b"", r"0 bytes, not [0-9]+"),
    "gone": (lambda content: None, "it is gone"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_changed_since_it_was_planned(what: str, tmp_path: Path) -> None:
    change, how = CHANGES[what]
    file = tmp_path / "products.csv"
    content = products(20) + ROW
    file.write_bytes(content)
    planned = plan(file, Kind.PRODUCT, OBSERVED_AT, 1_000)
    last = planned.chunks[-1]
    assert len(planned.chunks) > 2
    assert read_chunk(file, planned.ingestion.bytes, last) == content[last.start : last.end]

    changed = change(content)
    assert changed != content
    if changed is None:
        file.unlink()
    else:
        file.write_bytes(changed)
    with pytest.raises(UnfitFile, match=rf"products.csv has changed since it was planned \({how}\): nothing .* Put the former file back"):
        read_chunk(file, planned.ingestion.bytes, last)
