"""The chunk plan of a file, made in one pass: chunks end on record boundaries; a digest of each chunk and of the whole file."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, NamedTuple

from tidemark.ingest.files import FileKind, InvalidFile, Readable, Record, records
from tidemark.ingest.layouts import UNMAPPED, Columns, Layout, beginning, header, layout, names
from tidemark.serving.documents import IngestionFields
from tidemark.serving.ingestions import Chunk


class Planned(NamedTuple):
    """An ingestion and its chunks. `member` is as archives.member() returns it."""

    ingestion: IngestionFields
    chunks: list[Chunk]
    member: str | None = None


class _Digests:
    """Digests of the file and of the current chunk, fed with blocks of bytes."""

    def __init__(self) -> None:
        self.whole, self._chunk = hashlib.sha256(), hashlib.sha256()
        self.bytes = 0
        self._rest = memoryview(b"")  # of the newest block: not in the digest of a chunk yet

    def add(self, block: bytes) -> None:
        self.whole.update(block)
        self._chunk.update(self._rest)
        self._rest = memoryview(block)
        self.bytes += len(block)

    def end_chunk(self, end: int) -> str:
        """The digest of everything since the previous call, up to byte `end`, which must not lie before the newest block."""
        size = len(self._rest) - (self.bytes - end)
        self._chunk.update(self._rest[:size])
        self._rest = self._rest[size:]
        ended, self._chunk = self._chunk, hashlib.sha256()
        return ended.hexdigest()


class Planning:
    """The rows of an open file, and its plan once all of them have been read."""

    def __init__(self, file: Readable, raw: IO[bytes], kind: FileKind, observed_at: datetime, chunk_bytes: int, named: Columns) -> None:
        self._name, self._kind, self._observed_at, self._chunk_bytes = file.name, kind, observed_at, chunk_bytes
        self._digests = _Digests()
        separator = layout(beginning(file), kind, named).separator
        self._records = records(raw, note=self._digests.add, separator=separator)
        first = next(self._records, None)
        if first is None:
            raise InvalidFile("the file is empty: check that it was written completely")
        columns = header(first.fields, kind, named)  # from the same bytes as the digest
        self._digests.end_chunk(first.end)
        self._start, self._chunks = first.end, list[Chunk]()
        self._renamed = columns if columns != names(first.fields) else ()
        self.layout = Layout(separator, columns)

    def rows(self) -> Iterator[Record]:
        """All records but the header, once."""
        rows, start = 0, self._start
        for record in self._records:
            rows += 1
            if record.end - start >= self._chunk_bytes:
                self._end_chunk(start, record.end, rows)
                rows, start = 0, record.end
            yield record
        if rows:
            self._end_chunk(start, self._digests.bytes, rows)

    def planned(self) -> Planned:
        """The plan. Raises InvalidFile if there were no rows."""
        if not self._chunks:
            raise InvalidFile("the file has a header but no records: check that it was written completely")
        content = self._digests.whole.hexdigest()
        ingestion: IngestionFields = {
            "_id": _identity(self._kind, self._observed_at, content, self._renamed),
            "kind": str(self._kind),
            "name": self._name,
            "bytes": self._digests.bytes,
            "rows": sum(chunk.rows for chunk in self._chunks),
            "content": content,
            "observed_at": self._observed_at,
            "columns": list(self.layout.columns),
            "separator": self.layout.separator,
            "chunks": len(self._chunks),
        }
        return Planned(ingestion, self._chunks)

    def _end_chunk(self, start: int, end: int, rows: int) -> None:
        self._chunks.append(Chunk(len(self._chunks), start, end, rows, self._digests.end_chunk(end)))


@contextmanager
def planning(file: Readable, kind: FileKind, observed_at: datetime, chunk_bytes: int, named: Columns = UNMAPPED) -> Iterator[Planning]:
    """Opens a file to read its rows and to plan chunks of about `chunk_bytes` in the same pass.

    Each chunk ends with the record that reaches that size. Chunks are contiguous from the end of the header; only empty lines may follow
    the last one. The same content, kind and moment give the same ingestion, unless a different column mapping is given. Raises InvalidFile,
    naming the file, if it is empty, has no or a wrong header, or contains a record of more than 1 MiB; OSError if it cannot be read.
    """
    try:
        with file.open("rb") as raw:
            yield Planning(file, raw, kind, observed_at, chunk_bytes, named)
    except InvalidFile as reason:
        raise InvalidFile(f"{file}: {reason}. Nothing was sent") from None


def plan(file: Readable, kind: FileKind, observed_at: datetime, chunk_bytes: int, named: Columns = UNMAPPED) -> Planned:
    """Reads the whole file and plans its chunks. Errors are those of planning()."""
    with planning(file, kind, observed_at, chunk_bytes, named) as one:
        deque(one.rows(), maxlen=0)
        return one.planned()


def _identity(kind: FileKind, observed_at: datetime, content: str, renamed: tuple[str, ...]) -> str:
    """Renamed columns are part of the identity: under another mapping the same rows have another meaning."""
    moment = observed_at.astimezone(UTC).isoformat(timespec="milliseconds")
    hashed = "\n".join((str(kind), moment, content, *renamed))
    return hashlib.sha256(hashed.encode()).hexdigest()[:24]
