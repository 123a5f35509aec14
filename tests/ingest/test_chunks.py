"""Plans and events of files of every kind, against csv.reader on the whole file: whatever the chunk size, the same events."""

from __future__ import annotations

import hashlib
import re
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.csvs import (
    BOM,
    LINE_ENDS,
    OBSERVED_AT,
    REGISTERED_AT,
    MemoryFile,
    any_products,
    csv_bytes,
    expected,
    plain,
    product,
    products,
    read_whole,
    sent,
)

from tidemark.ingest import files
from tidemark.ingest.files import CATEGORY_COLUMNS, MAX_RECORD_BYTES, PRODUCT_COLUMNS, FileKind, InvalidFile
from tidemark.ingest.plan import Planned, plan
from tidemark.ingest.records import Origin, messages
from tidemark.settings import CHECKOUT

SIZES = (1, 2, 3, 10, 37, 100, 1_000, 65_536, 10**9)

# What changes how a file is split into lines, records and fields, and what must not.
PIECES = (*(b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"a", b" ", b"\x00", b"'", b"\\"), *("é".encode(), b"\xc3", b"\xff", BOM, b"\x85"))
soups = st.lists(st.sampled_from(PIECES), min_size=1, max_size=60).map(b"".join)
headers = st.builds(
    lambda bom, before, columns, end: bom + before + columns + end,
    st.sampled_from([b"", BOM]),
    st.sampled_from([b"", b"\n", b"\r\n\r\n"]),
    st.sampled_from([b"id,category_name", b'"id","category_name"', b"category_name,id", 'id,category_name,"größe,\n2"'.encode()]),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)


def check(content: bytes, kind: FileKind, chunk_bytes: int) -> Planned:
    """All that must hold of a file's plan and its events."""
    columns, header_end, rows = read_whole(content)
    planned = plan(MemoryFile(content), kind, OBSERVED_AT, chunk_bytes)
    chunks = planned.chunks

    assert planned.ingestion["columns"] == columns
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.start for chunk in chunks] == [header_end, *(chunk.end for chunk in chunks[:-1])]
    assert content[chunks[-1].end :].strip(b"\r\n") == b""
    for chunk in chunks:
        inside = [row for row in rows if chunk.start <= row.position < chunk.end]
        assert chunk.rows == len(inside)
        assert chunk.content == hashlib.sha256(content[chunk.start : chunk.end]).hexdigest()
        if chunk is not chunks[-1]:
            assert chunk.end == inside[-1].end
            assert chunk.end - chunk.start >= chunk_bytes
        for row in inside[:-1]:
            assert row.end - chunk.start < chunk_bytes, "the chunk goes on after the record that reaches its size"

    assert planned.ingestion["rows"] == len(rows)
    assert planned.ingestion["bytes"] == len(content)
    assert planned.ingestion["content"] == hashlib.sha256(content).hexdigest()
    assert list(map(plain, sent(content, planned))) == list(map(plain, expected(content, kind, planned.ingestion["_id"])))
    return planned


@settings(max_examples=300, deadline=None)
@given(headers, soups, st.integers(1, 200), st.integers(1, 100))
@example(BOM + b"id,category_name\n", b"1,a\n", 1, 1)
@example(b"id,category_name\n", b'"1","a\r', 1, 100)
@example(b"id,category_name\n", b'"1","a\n\n\n', 1, 100)
@example(b"id,category_name\r\n", b"1,a\r\n\r\n\r\n", 5, 100)
def test_arbitrary_bytes_after_a_header_give_the_same_events_for_any_chunk_size(
    header: bytes, soup: bytes, chunk_bytes: int, block_bytes: int
) -> None:
    content = header + soup
    if not read_whole(content)[2]:
        return
    with patch.object(files, "_BLOCK_BYTES", block_bytes):
        assert check(content, FileKind.CATEGORY, chunk_bytes).ingestion["_id"] == check(content, FileKind.CATEGORY, 10**9).ingestion["_id"]


@pytest.mark.parametrize("seed", range(12))
def test_generated_products_give_the_same_events_for_any_chunk_size(seed: int) -> None:
    content = any_products(Random(seed), rows=60)
    identities = {check(content, FileKind.PRODUCT, size).ingestion["_id"] for size in SIZES}
    assert len(identities) == 1, "the chunk size has changed which ingestion it is"


def test_the_generated_products_are_of_every_kind() -> None:
    together = [any_products(Random(seed), rows=60) for seed in range(12)]
    rows = [row for content in together for row in read_whole(content)[2]]
    assert {row.fields is None for row in rows} == {True, False}
    assert any(row.fields and b"\n" in row.raw for row in rows)
    assert any(row.fields and "😀" in "".join(row.fields) for row in rows)
    assert any(row.fields is None and b"\xff" in row.raw for row in rows)
    assert {content.endswith((b"\n", b"\r")) for content in together} == {content.startswith(BOM) for content in together} == {True, False}


@pytest.mark.parametrize("end", LINE_ENDS)
@pytest.mark.parametrize("bom", [b"", BOM])
@pytest.mark.parametrize("last", [True, False])
def test_values_equal_the_written_text(end: str, bom: bytes, last: bool) -> None:
    """Without csv.reader: rows are known before they are written."""
    rows = [["B0T0000001", "two\nlines", *"ab", *"1234567"], ["B0T0000002", 'say ""so""', *"ab", *"1234567"]]
    lines = [",".join(PRODUCT_COLUMNS), 'B0T0000001,"two\nlines",a,b,1,2,3,4,5,6,7', 'B0T0000002,"say """"so""""",a,b,1,2,3,4,5,6,7']
    content = bom + end.join(lines).encode() + (end.encode() if last else b"")
    positions = [content.index(b"B0T0000001"), content.index(b"B0T0000002")]
    for size in (1, 50, 10**9):
        found = [plain(one) for one in sent(content, check(content, FileKind.PRODUCT, size))]
        assert [[value[column] for column in PRODUCT_COLUMNS] for _, value, _ in found] == rows
        assert [int(headers["tide-position"]) for *_, headers in found] == positions


def test_line_ends_split_between_two_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in blocks; a CR LF or a quoted line end that a block cuts in two is still one."""
    monkeypatch.setattr(files, "_BLOCK_BYTES", 4_096)
    for edge in (4_096, 8_192):
        for shift in range(-4, 4):
            for between in (b"\r\n", b'\r\n"1,\r\n",b\r\n', b"\n\r", b"\r\r"):
                start = b"id,category_name\r\n1,"
                content = start + b"x" * (edge + shift - len(start)) + between + b"2,b" + between
                check(content, FileKind.CATEGORY, 10**9)
                check(content, FileKind.CATEGORY, 1)


def test_ragged_and_non_utf_8_rows_are_sent_unchanged() -> None:
    content = csv_bytes([], CATEGORY_COLUMNS) + b'1\n2,b\r\n3,"c",d\r4,caf\xe9\n5,"e\nf",\xff\n"6,g\n\n'
    found = [(one.key, one.value, dict(one.headers)["tide-format"]) for one in sent(content, check(content, FileKind.CATEGORY, 1))]
    assert found == [
        (None, b"1", b"csv"),
        (b"2", b'{"id":"2","category_name":"b"}', b"json"),
        (None, b'3,"c",d', b"csv"),
        (None, b"4,caf\xe9", b"csv"),
        (None, b'5,"e\nf",\xff', b"csv"),
        (None, b'"6,g\n', b"csv"),
    ]


def test_columns_in_another_order_and_additional_columns() -> None:
    content = b"colour,category_name,id\nred,Lamps,7\n,,\n"
    assert [(one.key, one.value) for one in sent(content, check(content, FileKind.CATEGORY, 1))] == [
        (b"7", b'{"colour":"red","category_name":"Lamps","id":"7"}'),
        (None, b'{"colour":"","category_name":"","id":""}'),
    ]


@pytest.mark.parametrize(
    ("observed_at", "date"),
    [
        (datetime(2023, 10, 31, tzinfo=UTC), "2023-10-31T00:00:00.000Z"),
        (datetime(2023, 10, 31, 1, 0, 0, 5_999, timezone(timedelta(hours=2))), "2023-10-30T23:00:00.005Z"),
        (datetime(33, 1, 2, tzinfo=UTC), "0033-01-02T00:00:00.000Z"),
    ],
)
def test_the_date_is_the_time_of_observation_in_utc(observed_at: datetime, date: str) -> None:
    origin = Origin("one", FileKind.PRODUCT, PRODUCT_COLUMNS, observed_at, REGISTERED_AT)
    (message,) = messages(csv_bytes([product(1)], ()).lstrip(b"\n"), 100, origin)
    assert plain(message)[1]["date"] == date


def test_the_ingestion_id_depends_on_file_kind_and_moment() -> None:
    content = b"id,asin,category_name," + ",".join(PRODUCT_COLUMNS[1:]).encode() + b"\n" + b"," * 12 + b"\n"

    def identity(content: bytes, kind: FileKind, observed_at: datetime, name: str = "a.csv") -> str:
        return plan(MemoryFile(content, name), kind, observed_at, 10).ingestion["_id"]

    first = identity(content, FileKind.PRODUCT, OBSERVED_AT)
    assert identity(content, FileKind.PRODUCT, OBSERVED_AT, name="b.csv") == first
    assert identity(content, FileKind.PRODUCT, OBSERVED_AT.astimezone(timezone(timedelta(hours=9)))) == first
    others = {
        identity(content, FileKind.CATEGORY, OBSERVED_AT),
        identity(content + b"\n", FileKind.PRODUCT, OBSERVED_AT),
        identity(content, FileKind.PRODUCT, OBSERVED_AT + timedelta(milliseconds=1)),
    }
    assert len({first, *others}) == 4


def test_the_longest_record_is_accepted_and_a_longer_one_refused() -> None:
    """A record may have a MiB, line end and quoted lines included."""
    header, end = csv_bytes([], CATEGORY_COLUMNS), b'",b\n'
    longest = b'"' + b"x\n" * ((MAX_RECORD_BYTES - len(end)) // 2 - 1) + b"y" + end
    assert len(longest) == MAX_RECORD_BYTES
    planned = check(header + b"1,a\n" + longest + b"2,c\n", FileKind.CATEGORY, 10**9)
    assert planned.ingestion["rows"] == 3
    with pytest.raises(InvalidFile) as refused:
        plan(MemoryFile(header + b"1,a\n" + longest.replace(b"y", b"yy") + b"2,c\n"), FileKind.CATEGORY, OBSERVED_AT, 10**9)
    assert _numbers(refused) == [len(header) + 4, MAX_RECORD_BYTES]


def _numbers(refused: pytest.ExceptionInfo[InvalidFile]) -> list[int]:
    """Where the record that is too long begins, and how long one may be."""
    return [int(digits) for digits in re.findall("[0-9]+", str(refused.value))]


def _peak(content: bytes) -> int:
    """Bytes that planning in one chunk takes at most, beside the file's own."""
    file = MemoryFile(content)
    tracemalloc.start()
    try:
        plan(file, FileKind.PRODUCT, OBSERVED_AT, 10**9)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_of_planning_does_not_grow_with_the_file() -> None:
    small, large = products(12_000), products(36_000)
    assert len(small) > 1 << 20
    assert _peak(large) < _peak(small) * 1.2


def test_a_file_without_line_ends_is_not_read_into_memory() -> None:
    content = products(1) + b"x" * 30_000_000
    tracemalloc.start()
    try:
        with pytest.raises(InvalidFile) as refused:
            plan(MemoryFile(content), FileKind.PRODUCT, OBSERVED_AT, 10**9)
        assert _numbers(refused) == [len(content) - 30_000_000, MAX_RECORD_BYTES]
        assert tracemalloc.get_traced_memory()[1] < 10 * MAX_RECORD_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("name", "kind", "rows"), [("products_small", FileKind.PRODUCT, 1_166), ("categories", FileKind.CATEGORY, 248)])
def test_real_files_give_the_same_events_for_any_chunk_size(name: str, kind: FileKind, rows: int) -> None:
    file = CHECKOUT.parent / "shared" / "data" / f"amazon_{name}.csv"
    if not file.exists():
        pytest.skip(f"{file} is not there")
    for size in (1, 5_000, 10**9):
        assert check(file.read_bytes(), kind, size).ingestion["rows"] == rows
