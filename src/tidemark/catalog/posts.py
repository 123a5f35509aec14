"""What one client posted to the HTTP API in an interval of time: what a withdrawal of posts names, as a file's ingestion names its rows."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tidemark.catalog.events import CLIENT, Event

PREFIX = "api/"
_NAME = re.compile(f"{PREFIX}([^/]+)/([^/]+)(?:/([^/]+))?")


class InvalidPosts(ValueError):
    """A text names no posts."""


class Posts(NamedTuple):
    """The events that a client posted, by the name of its API key, with Kafka timestamps from `begin` to before `end` (ms)."""

    client: str
    begin: int
    end: int

    def __str__(self) -> str:
        return f"{PREFIX}{self.client}/{_text(self.begin)}/{_text(self.end)}"

    def contain(self, event: Event) -> bool:
        return self.begin <= event.timestamp < self.end and event.name(CLIENT) == self.client


def is_posts(name: str) -> bool:
    """Is this the name of posts, and not of an ingestion?"""
    return name.startswith(PREFIX)


def parse(text: str) -> Posts:
    """Posts by name: api/CLIENT/DAY, or api/CLIENT/FROM/UNTIL. Moments without a zone are UTC. Raises InvalidPosts."""
    found = _NAME.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        begin = _moment(found[2])
        end = _moment(found[3]) if found[3] else begin + timedelta(days=1)
    except (ValueError, OverflowError):
        raise InvalidPosts(
            f"'{text}' names no posts: write api/CLIENT/DAY or api/CLIENT/FROM/UNTIL, such as api/shop/2026-11-30 "
            "or api/shop/2026-11-30T14:00Z/2026-11-30T15:30Z"
        ) from None
    if end <= begin:
        raise InvalidPosts(f"'{text}' names no posts: it ends before it begins")
    return Posts(found[1], _milliseconds(begin), _milliseconds(end))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _milliseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _text(milliseconds: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds" if milliseconds % 1000 else "seconds").replace("+00:00", "Z")
