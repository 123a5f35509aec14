"""Turns records into events: key, value, and headers with their origin. Rows are not validated here."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from tidemark.catalog import events
from tidemark.ingest.files import DATE, FileKind, Record, records

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
    """Events for the records of a chunk that starts at byte `start` of its file."""
    return messages_of(records(io.BytesIO(chunk), start, separator=origin.separator), origin)


def messages_of(rows: Iterable[Record], origin: Origin) -> Iterator[Message]:
    """Events for the records of a file.

    A record with another number of fields than the header, or whose bytes are not UTF-8, is sent as its raw bytes.
    """
    common: Headers = [
        (events.SOURCE, b"csv"),
        (events.INGESTION, origin.ingestion.encode()),
        (events.REGISTERED_AT, str(milliseconds(origin.registered_at)).encode()),
    ]
    as_json, as_csv = (events.FORMAT, b"json"), (events.FORMAT, b"csv")
    columns, stated = origin.columns, []
    if origin.kind is FileKind.PRODUCT:
        columns, stated = (*columns, DATE), [origin.observed_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")]
    key_at, width = columns.index(origin.kind.key), len(origin.columns)
    for start, _, content, fields in rows:
        position = (events.POSITION, b"%d" % start)
        if len(fields) == width:
            try:
                value = orjson.dumps(dict(zip(columns, fields + stated, strict=True)))
            except orjson.JSONEncodeError:
                pass  # not UTF-8
            else:
                yield Message(fields[key_at].encode() or None, value, [*common, as_json, position])
                continue
        yield Message(None, _raw(content), [*common, as_csv, position])


def _raw(record: bytes) -> bytes:
    """A record's bytes without the final line end. Only one is removed: an unclosed quotation mark may include others before it."""
    return record.removesuffix(b"\n").removesuffix(b"\r")


def milliseconds(moment: datetime) -> int:
    """Since 1970 UTC."""
    return round(moment.timestamp() * 1000)
