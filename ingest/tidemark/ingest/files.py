"""CSV files as the records in them: where each starts, byte for byte, and its fields, as csv.reader reads them.

Bytes are read as Latin-1, in which a character is a byte: so csv.reader itself decides where records end, and positions
are exact whatever the text's encoding. Fields are decoded as UTF-8 afterwards.
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
MOST_RECORD_BYTES = 1024 * 1024  # as JSON it still fits a message, however much of it must be escaped

PRODUCT_COLUMNS = (
    *("asin", "title", "imgUrl", "productURL", "stars", "reviews", "price", "listPrice"),
    *("category_id", "isBestSeller", "boughtInLastMonth"),
)
CATEGORY_COLUMNS = ("id", "category_name")
DATE = "date"  # stated by the ingestion


class FileKind(StrEnum):
    PRODUCT = "product"
    CATEGORY = "category"

    @property
    def columns(self) -> tuple[str, ...]:
        return PRODUCT_COLUMNS if self is FileKind.PRODUCT else CATEGORY_COLUMNS

    @property
    def key(self) -> str:
        """The column whose text is the event's key."""
        return self.columns[0]


class UnfitFile(Exception):
    """The file as a whole cannot be ingested; nothing has been produced."""


class Readable(Protocol):
    """A file that can be opened again and again: a pathlib.Path, an Airflow ObjectStoragePath."""

    @property
    def name(self) -> str: ...

    def open(self, mode: str) -> Any: ...


class Record(NamedTuple):
    """A record's first byte in the file, the byte after it, and its fields as Latin-1."""

    start: int
    end: int
    fields: list[str]


@dataclass
class _Lines:
    """Lines for csv.reader. `taken` is the byte after the newest, `ended` the byte after the newest record's end."""

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
                    "does a quotation mark in it never close, or is it no CSV file?"
                )
            yield line


def records(raw: IO[bytes], start: int = 0, note: Callable[[str], object] | None = None, separator: str = ",") -> Iterator[Record]:
    """Records of a binary file that is at byte `start`; empty lines are none. `note` is given every line, as Latin-1.

    Raises UnfitFile where a record is longer than MOST_RECORD_BYTES.
    """
    csv.field_size_limit(2 * MOST_RECORD_BYTES)
    text = io.TextIOWrapper(raw, encoding="latin-1", newline="")
    # One character more than a record may have: a file without line ends is refused, not read into memory.
    lines = _Lines(iter(partial(text.readline, MOST_RECORD_BYTES + 1), ""), start, start, note)
    for fields in csv.reader(_without_bom(lines) if start == 0 else lines, delimiter=separator):
        if fields:
            yield Record(lines.ended, lines.taken, fields)
        lines.ended = lines.taken


def _without_bom(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield line.removeprefix(BOM) if number == 0 else line
