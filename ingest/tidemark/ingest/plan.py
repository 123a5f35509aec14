"""The chunk plan of a file, made in one pass: chunks end on record boundaries; a digest of each chunk and of the whole file."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import NamedTuple

from tidemark.ingest.files import FileKind, Readable, UnfitFile, records
from tidemark.ingest.layouts import AS_THEY_ARE, Columns, Layout, beginning, header, layout, names
from tidemark.serving.ingestions import Chunk, Ingestion

_DIGEST_AT_ONCE = 1 << 20  # bytes


class Planned(NamedTuple):
    ingestion: Ingestion
    layout: Layout
    chunks: list[Chunk]


class _Digests:
    """Digests of the file and of the current chunk, fed with lines as Latin-1."""

    def __init__(self) -> None:
        self.whole, self._chunk = hashlib.sha256(), hashlib.sha256()
        self.bytes = 0
        self._pending: list[str] = []
        self._pending_bytes = 0

    def add(self, line: str) -> None:
        self._pending.append(line)
        self._pending_bytes += len(line)
        if self._pending_bytes >= _DIGEST_AT_ONCE:
            self._digest()

    def end_chunk(self) -> str:
        """The digest of everything since the previous call."""
        self._digest()
        ended, self._chunk = self._chunk, hashlib.sha256()
        return ended.hexdigest()

    def _digest(self) -> None:
        some = "".join(self._pending).encode("latin-1")
        self.whole.update(some)
        self._chunk.update(some)
        self.bytes += len(some)
        self._pending, self._pending_bytes = [], 0


def plan(file: Readable, kind: FileKind, observed_at: datetime, chunk_bytes: int, named: Columns = AS_THEY_ARE) -> Planned:
    """Reads the whole file and plans chunks of about `chunk_bytes`: each ends with the record that reaches that size.

    Chunks are contiguous from the end of the header; only empty lines may follow the last one. The same content, kind and moment give
    the same ingestion, unless a different column mapping is given. Raises UnfitFile, naming the file, if it is empty, has no or a wrong
    header, or contains a record of more than 1 MiB; OSError if it cannot be read.
    """
    digests = _Digests()
    chunks: list[Chunk] = []
    try:
        separator = layout(beginning(file), kind, named).separator
        with file.open("rb") as raw:
            found = records(raw, note=digests.add, separator=separator)
            first = next(found, None)
            if first is None:
                raise UnfitFile("the file is empty: check that it was written completely")
            columns = header(first.fields, kind, named)  # from the same bytes as the digest
            digests.end_chunk()
            rows, start = 0, first.end

            def end_chunk() -> Chunk:
                content = digests.end_chunk()
                return Chunk(len(chunks), start, digests.bytes, rows, content)

            for record in found:
                rows += 1
                if record.end - start >= chunk_bytes:
                    chunks.append(end_chunk())
                    rows, start = 0, record.end
            if rows:
                chunks.append(end_chunk())
            if not chunks:
                raise UnfitFile("the file has a header but no records: check that it was written completely")
            digests.end_chunk()
    except UnfitFile as reason:
        raise UnfitFile(f"{file}: {reason}. Nothing was sent") from None
    content = digests.whole.hexdigest()
    ingestion = Ingestion(
        id=_identity(kind, observed_at, content, columns if columns != names(first.fields) else ()),
        kind=str(kind),
        file=str(file),
        name=file.name,
        bytes=digests.bytes,
        rows=sum(chunk.rows for chunk in chunks),
        content=content,
        observed_at=observed_at,
    )
    return Planned(ingestion, Layout(separator, columns), chunks)


def _identity(kind: FileKind, observed_at: datetime, content: str, renamed: tuple[str, ...]) -> str:
    """Renamed columns are part of the identity: under another mapping the same rows have another meaning."""
    moment = observed_at.astimezone(UTC).isoformat(timespec="milliseconds")
    told = "\n".join((str(kind), moment, content, *renamed))
    return hashlib.sha256(told.encode()).hexdigest()[:24]
