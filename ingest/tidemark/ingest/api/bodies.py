"""Request bodies: rejects unacceptable ones before or while reading, and splits batches into records without changing a byte."""

from __future__ import annotations

import asyncio
import io
import re
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

MAX_RECORDS = 10_000  # per batch
RETRY_AFTER = {"Retry-After": "5"}  # seconds; about as long as a broker takes to start

MIN_RESERVATION = 4_096  # bytes reserved by every request
_SPACE = b" \t\r\n"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT_OBJECT = rb'\{[^][{}"]*+(?:' + _STRING + rb'[^][{}"]*+)*+\}'
# Strings and flat objects as a whole, brackets, commas, the quote of a string without an end. Linear in any body: no quantifier backtracks.
_SIGNS = re.compile(_FLAT_OBJECT + rb"|" + _STRING + rb'|[][{},"]', re.DOTALL)


class Form(StrEnum):
    """The format of a body."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"


_FORMS = {
    "application/json": Form.JSON,
    "application/x-ndjson": Form.NDJSON,
    "application/ndjson": Form.NDJSON,
    "application/jsonl": Form.NDJSON,
}


class Piece(NamedTuple):
    """A record's bytes and its index in the array or its line number, counted from 0."""

    number: int
    record: bytes


class InvalidBatch(Exception):
    """A body that cannot be split into records; the message says why and what to do."""


class MemoryLimit:
    """A limit on the bytes held in memory at the same time."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    def reserve(self, count: int) -> None:
        """Reserves bytes. Raises HTTPException 503 if the limit would be exceeded."""
        if self.taken + count > self.most:
            raise HTTPException(503, "the server has no memory left for this request: send it again later", RETRY_AFTER)
        self.taken += count

    def release(self, count: int) -> None:
        self.taken -= count


class BodyMemory:
    """Two limits on the bytes of bodies held in memory at the same time: of all clients, and of one."""

    def __init__(self, most: int, most_of_client: int) -> None:
        self._all, self._most_of_client = MemoryLimit(most), most_of_client
        self._by_client: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        return self._all.taken

    def reserve(self, client: str, count: int) -> None:
        """Reserves bytes. Raises HTTPException: 429 if the client's limit would be exceeded, 503 if that of all would."""
        if self._by_client[client] + count > self._most_of_client:
            self._forget(client)
            raise HTTPException(429, f"{client} is sending too many bodies at once: send this one again later", RETRY_AFTER)
        try:
            self._all.reserve(count)
        except HTTPException:
            self._forget(client)
            raise
        self._by_client[client] += count

    def release(self, client: str, count: int) -> None:
        self._all.release(count)
        self._by_client[client] -= count
        self._forget(client)

    def _forget(self, client: str) -> None:
        if not self._by_client[client]:
            del self._by_client[client]


class Reservation:
    """The bytes that one request of a client has reserved; the context manager releases them."""

    def __init__(self, memory: BodyMemory, client: str) -> None:
        self._memory, self._client, self._taken = memory, client, 0

    def __enter__(self) -> Reservation:
        self.reserve(MIN_RESERVATION)
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.release(self._client, self._taken)

    def reserve(self, count: int) -> None:
        self._memory.reserve(self._client, count)
        self._taken += count


def form_of(request: Request) -> Form:
    """The format that the headers declare. Raises HTTPException 415 if the API does not support it.

    A body without Content-Type counts as JSON, as simple clients send it, unless the request has an Origin. A browser sends a preflight
    request before it posts JSON from a page of another site, but not before it posts a body without a type.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise HTTPException(415, f"Content-Encoding {encoding} is not supported: send the body uncompressed")
    kind, *parameters = (part.strip().lower() for part in request.headers.get("content-type", "").split(";"))
    for parameter in parameters:
        if parameter.startswith("charset=") and parameter.removeprefix("charset=").strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise HTTPException(415, f"{parameter} is not supported: send UTF-8")
    if not kind and "origin" not in request.headers:
        return Form.JSON
    if kind not in _FORMS:
        found = f"{kind} is not supported" if kind else "is missing"
        raise HTTPException(415, f"Content-Type {found}: send {Form.JSON}, or {Form.NDJSON} for a batch")
    return _FORMS[kind]


async def read(request: Request, most: int, within_seconds: float, reservation: Reservation) -> bytes:
    """Reads the body, of at most `most` bytes. A larger one is rejected as soon as its size is known, and is not kept.

    Raises HTTPException: 413 too large, 408 not received in time, 429 too much of one client, 503 no memory left, 400 client disconnected.
    """
    too_large = HTTPException(413, f"the body is larger than {most} bytes: send a smaller one")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(within_seconds):
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise too_large
                reservation.reserve(len(piece))
                pieces.append(piece)
    except TimeoutError:
        raise HTTPException(408, f"the body was not received within {within_seconds:g} s: send it again", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "the client disconnected") from None
    return b"".join(pieces)


def records(body: bytes, form: Form) -> Iterator[Piece]:
    """The records of a batch, byte for byte, without empty lines. Raises InvalidBatch if a JSON body is not an array."""
    return _lines(body) if form is Form.NDJSON else _elements(body)


def _lines(body: bytes) -> Iterator[Piece]:
    for number, line in enumerate(io.BytesIO(body)):
        if record := line.strip(_SPACE):
            yield Piece(number, record)


def _elements(body: bytes) -> Iterator[Piece]:
    """The parts between the commas of the outermost array. If each part is valid JSON, so is the body.

    No library does this. ijson yields values, not bytes. msgspec (`list[msgspec.Raw]`) splits 10,000 records of 300 bytes 8 times as fast
    (4 ms of CPU instead of 35; validating them takes 210), but one malformed record makes it refuse the whole body without naming the
    others, and it builds all parts before their number can be limited: 600 MB for a body of 16 MB.
    """
    depth = number = start = 0
    for found in _SIGNS.finditer(body):
        at, end = found.span()
        if end > at + 1:
            continue
        match body[at:end]:
            case b'"':
                break
            case b"[" | b"{" as sign:
                depth += 1
                if depth == 1:
                    if sign == b"{" or body[:at].strip(_SPACE):
                        break
                    start = at + 1
            case b",":
                if depth == 1:
                    yield Piece(number, body[start:at].strip(_SPACE))
                    number, start = number + 1, at + 1
            case _:
                depth -= 1
                if depth == 0:
                    last = body[start:at].strip(_SPACE)
                    if last or number:
                        yield Piece(number, last)
                    if body[at + 1 :].strip(_SPACE):
                        raise _no_array("data follows its end")
                    return
        if depth < 1:
            break
    raise _no_array("it is incomplete" if depth and start else "it does not start with [")


def _no_array(reason: str) -> InvalidBatch:
    return InvalidBatch(f"the body is not a JSON array of records: {reason}. To send one record per line, use {Form.NDJSON}")
