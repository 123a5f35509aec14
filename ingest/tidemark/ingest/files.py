"""CSV files as records: the exact byte range of each, and its fields as csv.reader parses them.

Bytes are read as Latin-1, in which one character is one byte. So csv.reader itself decides where records end, and byte positions
are exact whatever the encoding of the text. Fields are decoded as UTF-8 afterwards.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import IO, Any, NamedTuple, Protocol

BOM = "\xef\xbb\xbf"  # UTF-8's byte order mark, byte by byte
MOST_RECORD_BYTES = 1024 * 1024  # as JSON it still fits a Kafka message, even if every character needs escaping

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


class UnfitFile(Exception):
    """The file as a whole cannot be ingested; nothing was produced."""


class Readable(Protocol):
    """A file that can be opened repeatedly: a pathlib.Path, an Airflow ObjectStoragePath."""

    @property
    def name(self) -> str: ...

    def open(self, mode: str) -> Any: ...


class Record(NamedTuple):
    """A record's byte range in the file (`end` exclusive) and its fields as Latin-1."""

    start: int
    end: int
    fields: list[str]


@dataclass
class _Lines:
    """Lines for csv.reader. `taken` is the byte after the last line read, `ended` the byte after the last complete record."""

    lines: Iterator[str]
    taken: int
    ended: int
    note: Callable[[str], object] | None

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            self.taken += len(line)
            if self.note:
                self.note(line)
            if self.taken - self.ended > MOST_RECORD_BYTES:
                raise UnfitFile(
                    f"the record at byte {self.ended} is longer than {MOST_RECORD_BYTES} bytes: "
                    "check for an unclosed quotation mark, and that this is a CSV file"
                )
            yield line


def records(raw: IO[bytes], start: int = 0, note: Callable[[str], object] | None = None, separator: str = ",") -> Iterator[Record]:
    """Records of a binary file positioned at byte `start`, without empty lines. `note` is called with every line, as Latin-1.

    Raises UnfitFile if a record is longer than MOST_RECORD_BYTES.
    """
    csv.field_size_limit(2 * MOST_RECORD_BYTES)
    text = io.TextIOWrapper(raw, encoding="latin-1", newline="")
    # Lines are limited to one character more than a record may have: a file without line ends is refused, not read into memory.
    lines = _Lines(iter(partial(text.readline, MOST_RECORD_BYTES + 1), ""), start, start, note)
    for fields in csv.reader(_without_bom(lines) if start == 0 else lines, delimiter=separator):
        if fields:
            yield Record(lines.ended, lines.taken, fields)
        lines.ended = lines.taken


def _without_bom(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield line.removeprefix(BOM) if number == 0 else line
