"""Events as Kafka stores them, and the headers that record their origin."""

from __future__ import annotations

import re
from typing import NamedTuple

SOURCE = "tide-source"  # csv, api or replay
FORMAT = "tide-format"  # json or csv
INGESTION = "tide-ingestion"  # id of the ingestion that an event of a file belongs to
POSITION = "tide-position"  # byte offset of the record in its file
REGISTERED_AT = "tide-registered-at"  # when the ingestion was registered, in milliseconds
REGISTERED_BY = "tide-registered-by"  # when an event of the API counts as registered at the latest, in milliseconds
CLIENT = "tide-client"  # name of the API key with which an event of the API was posted; by it posts can be withdrawn
REPLAY_OF = "tide-replay-of"  # topic/partition/offset of the event that a replay repeats

# Names become part of keys in MongoDB, so their length must be bounded. A topic/partition/offset has at most 281 characters.
MAX_NAME_CHARACTERS = 500

# Fifteen digits cover every millisecond until the year 33,658 and every byte of a petabyte, and fit a 64-bit integer.
HEADER_NUMBER = "[0-9]{1,15}"


class Event(NamedTuple):
    """One Kafka record, unchanged. `timestamp` is in milliseconds; an absent key, value or header value is None."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    def header(self, name: str) -> str | None:
        """The last header of that name as text; None if it is absent or not UTF-8."""
        found = [value for key, value in self.headers if key == name]
        if not found or found[-1] is None:
            return None
        try:
            return found[-1].decode()
        except UnicodeDecodeError:
            return None

    def name(self, name: str) -> str | None:
        """A header that holds a name; None if it is empty or longer than MAX_NAME_CHARACTERS."""
        text = self.header(name)
        return text if text is not None and 1 <= len(text) <= MAX_NAME_CHARACTERS else None

    def number(self, name: str) -> int | None:
        """A header that holds a whole number; None if it holds anything else."""
        text = self.header(name)
        return int(text) if text is not None and re.fullmatch(HEADER_NUMBER, text) else None

    @property
    def registered_at(self) -> int:
        """Milliseconds. An event of no ingestion counts as registered when Kafka stored it, but no later than its header says: so what a
        client has posted later is newer, even if Kafka stores this event after it.
        """
        registered_at, latest = self.number(REGISTERED_AT), self.number(REGISTERED_BY)
        if registered_at is not None:
            return registered_at
        return self.timestamp if latest is None else min(self.timestamp, latest)

    @property
    def position(self) -> int:
        """Byte offset of the record in its source file; 0 for an event that came from no file."""
        return self.number(POSITION) or 0

    @property
    def ingestion(self) -> str | None:
        """The ingestion's id; None unless the event also names its position in the file."""
        return None if self.number(POSITION) is None else self.name(INGESTION)

    @property
    def source(self) -> str:
        """The identity by which repeats are recognised: `ingestion:position`, else the event replayed, else its own coordinates."""
        if self.ingestion is not None:
            return f"{self.ingestion}:{self.position}"
        return self.name(REPLAY_OF) or f"{self.topic}/{self.partition}/{self.offset}"
