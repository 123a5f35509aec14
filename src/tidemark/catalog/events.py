"""Events as Kafka holds them, and the headers that tell where one came from."""

from __future__ import annotations

import re
from typing import NamedTuple

SOURCE = "tide-source"  # csv, api or replay
FORMAT = "tide-format"  # json or csv
INGESTION = "tide-ingestion"  # id of the ingestion a file's event belongs to
POSITION = "tide-position"  # byte of the file where its record starts
TOLD_AT = "tide-registered-at"  # milliseconds; when the ingestion was registered
REPLAY_OF = "tide-replay-of"  # topic/partition/offset of the event that a replay repeats

# What names something becomes part of a key in MongoDB, so that its length must have an end. A topic/partition/offset has 281 at most.
MOST_NAME_CHARACTERS = 500

# Fifteen digits hold every millisecond until the year 33,658 and every byte of a petabyte, and fit a 64-bit integer.
HEADER_NUMBER = "[0-9]{1,15}"


class Event(NamedTuple):
    """One Kafka record, as it came. `timestamp` is in milliseconds; an absent key, value or header value is None."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    def header(self, name: str) -> str | None:
        """The last header of that name as text; None where there is none or it is not UTF-8."""
        found = [value for key, value in self.headers if key == name]
        if not found or found[-1] is None:
            return None
        try:
            return found[-1].decode()
        except UnicodeDecodeError:
            return None

    def name(self, name: str) -> str | None:
        """A header that names something; None where it is empty or longer than any name."""
        text = self.header(name)
        return text if text is not None and 1 <= len(text) <= MOST_NAME_CHARACTERS else None

    def number(self, name: str) -> int | None:
        """A header that holds a whole number; None where it holds anything else."""
        text = self.header(name)
        return int(text) if text is not None and re.fullmatch(HEADER_NUMBER, text) else None

    @property
    def registered_at(self) -> int:
        """Milliseconds. What came by API or from elsewhere was told when Kafka stored it."""
        told = self.number(TOLD_AT)
        return self.timestamp if told is None else told

    @property
    def position(self) -> int:
        """Byte of the source file where the record starts; 0 for what came from no file."""
        return self.number(POSITION) or 0

    @property
    def ingestion(self) -> str | None:
        """Of what came from a file, and says from where in it."""
        return None if self.number(POSITION) is None else self.name(INGESTION)

    @property
    def source(self) -> str:
        """What makes a repeated event recognisable: `ingestion:position`, else the event replayed, else its own coordinates."""
        if self.ingestion is not None:
            return f"{self.ingestion}:{self.position}"
        return self.name(REPLAY_OF) or f"{self.topic}/{self.partition}/{self.offset}"
