"""A chunk's records as events: key, value and the headers that say where each came from. Rows are not judged here."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from catalog import events
from ingest.files import DATE, Kind, Record, records

Headers = list[tuple[str, str | bytes | None]]


class Message(NamedTuple):
    """What is handed to Kafka. The key is None where the record has none."""

    key: bytes | None
    value: bytes
    headers: Headers


class Origin(NamedTuple):
    """What every event of an ingestion says of itself."""

    ingestion: str
    kind: Kind
    columns: tuple[str, ...]
    observed_at: datetime
    told_at: datetime
    separator: str = ","


def messages(chunk: bytes, start: int, origin: Origin) -> Iterator[Message]:
    """Events of the records in a chunk that starts at that byte of its file.

    A record whose number of fields is not the header's, or whose bytes are not UTF-8, goes as its raw bytes.
    """
    common: Headers = [
        (events.SOURCE, b"csv"),
        (events.INGESTION, origin.ingestion.encode()),
        (events.TOLD_AT, str(_milliseconds(origin.told_at)).encode()),
    ]
    as_json, as_csv = (events.FORMAT, b"json"), (events.FORMAT, b"csv")
    date = origin.observed_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    key_at = origin.columns.index(origin.kind.key)
    of_product = origin.kind is Kind.PRODUCT
    for record in records(io.BytesIO(chunk), start, separator=origin.separator):
        fields = _decoded(record.fields) if len(record.fields) == len(origin.columns) else None
        position = (events.POSITION, str(record.start).encode())
        if fields is None:
            yield Message(None, _raw(chunk, start, record), [*common, as_csv, position])
            continue
        value = dict(zip(origin.columns, fields, strict=True))
        if of_product:
            value[DATE] = date
        yield Message(fields[key_at].encode() or None, orjson.dumps(value), [*common, as_json, position])


def _decoded(fields: list[str]) -> list[str] | None:
    """Latin-1 fields as the UTF-8 text they are; None where one is not."""
    try:
        return [field if field.isascii() else field.encode("latin-1").decode() for field in fields]
    except UnicodeDecodeError:
        return None


def _raw(chunk: bytes, start: int, record: Record) -> bytes:
    """The record's bytes without its line end, which is one, whatever a quotation mark that never closes has swallowed before it."""
    return chunk[record.start - start : record.end - start].removesuffix(b"\n").removesuffix(b"\r")


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
