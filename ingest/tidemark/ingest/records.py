"""Turns a chunk's records into events: key, value, and headers with their origin. Rows are not validated here."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate, repeat
from typing import NamedTuple

import orjson

from tidemark.catalog import events
from tidemark.ingest.files import DATE, MOST_RECORD_BYTES, FileKind, Record

Headers = list[tuple[str, str | bytes | None]]


class Message(NamedTuple):
    """An event for Kafka. The key is None if the record has none."""

    key: bytes | None
    value: bytes
    headers: Headers


class Origin(NamedTuple):
    """Metadata common to all events of an ingestion."""

    ingestion: str
    kind: FileKind
    columns: tuple[str, ...]
    observed_at: datetime
    registered_at: datetime
    separator: str = ","


def messages(chunk: bytes, start: int, origin: Origin) -> Iterator[Message]:
    """Events for the records of a chunk that starts at byte `start` of its file.

    A record with another number of fields than the header, or whose bytes are not UTF-8, is sent as its raw bytes.
    """
    common: Headers = [
        (events.SOURCE, b"csv"),
        (events.INGESTION, origin.ingestion.encode()),
        (events.TOLD_AT, str(_milliseconds(origin.registered_at)).encode()),
    ]
    as_json, as_csv = (events.FORMAT, b"json"), (events.FORMAT, b"csv")
    columns, stated = origin.columns, []
    if origin.kind is FileKind.PRODUCT:
        columns, stated = (*columns, DATE), [origin.observed_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")]
    key_at, width = columns.index(origin.kind.key), len(origin.columns)
    for begin, end, fields in _records(chunk, origin.separator):
        position = (events.POSITION, b"%d" % (start + begin))
        if len(fields) == width:
            try:
                value = orjson.dumps(dict(zip(columns, fields + stated, strict=True)))
            except orjson.JSONEncodeError:
                pass  # not UTF-8
            else:
                yield Message(fields[key_at].encode() or None, value, [*common, as_json, position])
                continue
        yield Message(None, _raw(chunk[begin:end]), [*common, as_csv, position])


def _records(chunk: bytes, separator: str) -> Iterator[Record]:
    """The chunk's records, exactly as `ingest.files.records` finds them, with byte ranges within the chunk. Much faster: in memory.

    Fields are text. A byte that is not UTF-8 becomes a lone surrogate, which JSON cannot represent.
    """
    csv.field_size_limit(2 * MOST_RECORD_BYTES)
    lines = chunk.splitlines(keepends=True)  # bytes.splitlines splits where csv.reader does
    ends = list(accumulate(map(len, lines), initial=0))
    taken = 0
    reader = csv.reader(map(bytes.decode, lines, repeat("utf-8"), repeat("surrogateescape")), delimiter=separator)
    for fields in reader:
        if fields:
            yield Record(ends[taken], ends[reader.line_num], fields)
        taken = reader.line_num


def _raw(record: bytes) -> bytes:
    """A record's bytes without the final line end. Only one is removed: an unclosed quotation mark may include others before it."""
    return record.removesuffix(b"\n").removesuffix(b"\r")


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
