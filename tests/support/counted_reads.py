"""How often a file is read and its rows are parsed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from tidemark.ingest import files


class Counted:
    """A file that counts the bytes that are read of it."""

    def __init__(self, path: Path) -> None:
        self.path, self.bytes = path, 0
        self.name, self.stat, self.is_file, self.glob = path.name, path.stat, path.is_file, path.glob

    def __str__(self) -> str:
        return str(self.path)

    def open(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        counted = self

        class Raw(io.FileIO):
            def readinto(self, into: Any) -> int:
                count = super().readinto(into) or 0
                counted.bytes += count
                return count

            def readall(self) -> bytes:
                content = super().readall() or b""
                counted.bytes += len(content)
                return content

        return io.BufferedReader(Raw(str(self.path)))

    def reads(self) -> float:
        """How often the file has been read."""
        return self.bytes / self.path.stat().st_size


class CountedRows:
    """Stands before csv.reader and counts the rows that are parsed."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, lines: Any, **options: Any) -> Iterator[list[str]]:
        return _Reader(self, csv.reader(lines, **options))


class _Reader:
    def __init__(self, counted: CountedRows, reader: Any) -> None:
        self._counted, self._reader = counted, reader

    @property
    def line_num(self) -> int:
        return self._reader.line_num  # type: ignore[no-any-return]

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> list[str]:
        row = next(self._reader)
        self._counted.rows += 1
        return row  # type: ignore[no-any-return]


@contextmanager
def counted_rows() -> Iterator[CountedRows]:
    """Counts the rows that files.records() parses."""
    counted = CountedRows()
    with patch.object(files, "csv", SimpleNamespace(reader=counted, field_size_limit=csv.field_size_limit)):
        yield counted
