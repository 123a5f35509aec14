"""CSV files as records: the exact byte range of each, and its fields as csv.reader parses them.

Lines are split as bytes, where csv.reader splits them, and decoded one by one. So csv.reader itself decides where records end, and byte
positions are exact whatever the encoding of the text.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from itertools import accumulate, repeat
from typing import IO, Any, NamedTuple, Protocol

MAX_RECORD_BYTES = 1024 * 1024  # as JSON it still fits a Kafka message, even if every character needs escaping
_BLOCK_BYTES = 256 * 1024  # with an unfinished record less than the limit of a field
_BOM = "\ufeff"

PRODUCT_COLUMNS = (
    *("asin", "title", "imgUrl", "productURL", "stars", "reviews", "price", "listPrice"),
    *("category_id", "isBestSeller", "boughtInLastMonth"),
)
CATEGORY_COLUMNS = ("id", "category_name")
DATE = "date"  # set by the ingestion


class FileKind(StrEnum):
    PRODUCT = "product"
    CATEGORY = "category"

    @property
    def columns(self) -> tuple[str, ...]:
        return PRODUCT_COLUMNS if self is FileKind.PRODUCT else CATEGORY_COLUMNS

    @property
    def key(self) -> str:
        """The column that becomes the event's key."""
        return self.columns[0]


class InvalidFile(Exception):
    """The file as a whole cannot be ingested; nothing was produced."""


class Readable(Protocol):
    """A file that can be opened repeatedly: a pathlib.Path, an Airflow ObjectStoragePath."""

    @property
    def name(self) -> str: ...

    def open(self, mode: str) -> Any: ...


class Path(Readable, Protocol):
    """A file or folder of a file system."""

    def is_file(self) -> bool: ...

    def glob(self, pattern: str) -> Any: ...

    def stat(self) -> Any: ...


class File(NamedTuple):
    """A file to ingest, compressed or not."""

    kind: FileKind
    path: Path
    observed_at: datetime


class Record(NamedTuple):
    """A record's byte range in the file (`end` exclusive), its bytes, and its fields as text.

    In a field, a byte that is not UTF-8 is a lone surrogate, which neither UTF-8 nor JSON can represent.
    """

    start: int
    end: int
    content: bytes
    fields: list[str]


def is_utf8(fields: Iterable[str]) -> bool:
    """Were all bytes of these fields of a record UTF-8?"""
    try:
        "".join(fields).encode()
    except UnicodeEncodeError:
        return False
    return True


class _Lines:
    """The lines of a file for csv.reader, read in blocks. Holds the bytes since `ended`, the end of the last complete record."""

    def __init__(self, raw: IO[bytes], start: int, note: Callable[[bytes], object] | None) -> None:
        self.ended = start
        self._raw, self._note = raw, note
        self._held, self._held_from = b"", start
        self._ends, self._before = [start], 0  # the ends of the newest block's lines; the number of lines before it

    def __iter__(self) -> Iterator[str]:
        while True:
            block = self._raw.read(_BLOCK_BYTES)
            if block and self._note:
                self._note(block)
            passed = self._ends[-1]
            unfinished = self._held[self.ended - self._held_from :]
            if len(unfinished) > MAX_RECORD_BYTES:
                raise _too_long(self.ended)
            self._held, self._held_from = unfinished + block, self.ended
            lines = self._held[passed - self.ended :].splitlines(keepends=True)
            if block and lines and not lines[-1].endswith(b"\n"):
                lines.pop()  # it may go on in the next block
            self._before += len(self._ends) - 1
            self._ends = list(accumulate(map(len, lines), initial=passed))
            texts = map(bytes.decode, lines, repeat("utf-8"), repeat("surrogateescape"))
            if passed == 0 and lines:
                yield next(texts).removeprefix(_BOM)
            yield from texts
            if not block:
                return

    def end(self, line: int) -> int:
        """The byte after a line of the newest block; the first line of the file is 1."""
        return self._ends[line - self._before]

    def content(self, end: int) -> bytes:
        """The bytes since the last complete record."""
        return self._held[self.ended - self._held_from : end - self._held_from]


def records(raw: IO[bytes], start: int = 0, note: Callable[[bytes], object] | None = None, separator: str = ",") -> Iterator[Record]:
    """Records of a binary file positioned at byte `start`, without empty lines. `note` is called with every block of bytes that is read.

    When a record is yielded, its end lies in the newest block, or where that begins. Raises InvalidFile if a record is longer than
    MAX_RECORD_BYTES.
    """
    csv.field_size_limit(2 * MAX_RECORD_BYTES)
    lines = _Lines(raw, start, note)
    reader = csv.reader(lines, delimiter=separator)
    for fields in reader:
        end = lines.end(reader.line_num)
        if end - lines.ended > MAX_RECORD_BYTES:
            raise _too_long(lines.ended)
        if fields:
            yield Record(lines.ended, end, lines.content(end), fields)
        lines.ended = end


def _too_long(start: int) -> InvalidFile:
    return InvalidFile(
        f"the record at byte {start} is longer than {MAX_RECORD_BYTES} bytes: "
        "check for an unclosed quotation mark, and that this is a CSV file"
    )
