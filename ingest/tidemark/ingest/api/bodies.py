"""Bodies of requests: refused before they are read, or while they are, and taken apart into records without changing a byte of one."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

MOST_RECORDS = 10_000  # of a batch
RETRY_AFTER = {"Retry-After": "5"}  # seconds; about as long as a broker takes to start

_LEAST_SHARE = 4_096  # bytes of room that any request takes
_SPACE = b" \t\r\n"
_SIGNS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{},]', re.DOTALL)  # strings as wholes, brackets, commas


class Form(StrEnum):
    """How a batch is written."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"


_FORMS = {
    "application/json": Form.JSON,
    "application/x-ndjson": Form.NDJSON,
    "application/ndjson": Form.NDJSON,
    "application/jsonl": Form.NDJSON,
}


class Piece(NamedTuple):
    """A record's bytes and its place: in the array, or as the line, counted from 0."""

    number: int
    record: bytes


class NoBatch(Exception):
    """A body that cannot be taken apart into records; says why and what to do."""


class Room:
    """Bytes that may be held at once, so that memory stays bounded whatever comes."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    def take(self, count: int) -> None:
        """HTTPException 503 where there is no room."""
        if self.taken + count > self.most:
            raise HTTPException(503, "too much is under way here: post it again later", RETRY_AFTER)
        self.taken += count

    def give_back(self, count: int) -> None:
        self.taken -= count


class Share:
    """What one request has taken of a room; it is given back at the end of a `with`."""

    def __init__(self, room: Room) -> None:
        self._room, self._taken = room, 0

    def __enter__(self) -> Share:
        self.take(_LEAST_SHARE)
        return self

    def __exit__(self, *_: object) -> None:
        self._room.give_back(self._taken)

    def take(self, count: int) -> None:
        self._room.take(count)
        self._taken += count


def form_of(request: Request) -> Form:
    """How the body says it is written. HTTPException 415 where that is nothing the API reads.

    A body without a type counts as JSON, as simple clients send it, but not from a page of another site: a browser asks the API
    before it sends such a page's JSON, and would not ask before it sends a body without a type.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise HTTPException(415, f"Content-Encoding {encoding} is not read here: send the body as it is")
    kind, *parameters = (part.strip().lower() for part in request.headers.get("content-type", "").split(";"))
    for parameter in parameters:
        if parameter.startswith("charset=") and parameter.removeprefix("charset=").strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise HTTPException(415, f"{parameter} is not read here: send UTF-8")
    if not kind and "origin" not in request.headers:
        return Form.JSON
    if kind not in _FORMS:
        raise HTTPException(415, f"Content-Type {kind or 'is missing'}: send {Form.JSON}, or {Form.NDJSON} for a batch")
    return _FORMS[kind]


async def read(request: Request, most: int, within_seconds: float, share: Share) -> bytes:
    """The body, at most so many bytes; what is more is refused as soon as it is known, and not kept.

    HTTPException 413, 408 where it does not come in time, 503 where there is no room, 400 where the client has gone.
    """
    too_large = HTTPException(413, f"the body has more than {most} bytes: send less at once")
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > most:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(within_seconds):
            async for piece in request.stream():
                size += len(piece)
                if size > most:
                    raise too_large
                share.take(len(piece))
                pieces.append(piece)
    except TimeoutError:
        raise HTTPException(408, f"the body has not come within {within_seconds:g} s", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(400, "the client has gone") from None
    return b"".join(pieces)


def records(body: bytes, form: Form) -> Iterator[Piece]:
    """The records of a batch, byte for byte; empty lines are none. NoBatch where a JSON body is no array."""
    return _lines(body) if form is Form.NDJSON else _elements(body)


def _lines(body: bytes) -> Iterator[Piece]:
    for number, line in enumerate(io.BytesIO(body)):
        if record := line.strip(_SPACE):
            yield Piece(number, record)


def _elements(body: bytes) -> Iterator[Piece]:
    """The parts between the commas of the outermost array. Where each of them is JSON, so is the body."""
    depth = number = start = 0
    for found in _SIGNS.finditer(body):
        at = found.start()
        match body[at : at + 1]:
            case b'"':
                continue
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
                        raise _no_array("something comes after its end")
                    return
        if depth < 1:
            break
    raise _no_array("it breaks off" if depth and start else "it does not begin with [")


def _no_array(reason: str) -> NoBatch:
    return NoBatch(f"the body is no JSON array of records: {reason}. For a record a line send {Form.NDJSON}")
