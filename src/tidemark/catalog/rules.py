"""The validation rules and the cube's levels as data. Both layers are built from it, and its fingerprint names it.

Patterns are written in what Python's and Java's regular expressions share, for whole matches, ASCII only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from tidemark.catalog.topics import MOST_MESSAGE_BYTES

DAY_MS = 86_400_000


@dataclass(frozen=True)
class DateFormat:
    """A way to write a moment: a pattern and, by component, its group's number (1 is the first)."""

    pattern: str
    year: int
    month: int
    day: int
    hour: int = 0
    minute: int = 0
    second: int = 0
    fraction: int = 0
    zone: int = 0


_HOUR, _MINUTE = "([01][0-9]|2[0-3])", "([0-5][0-9])"
_ZONE = "(Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)?"

DATE_FORMATS = (
    # ISO 8601, extended: 2023-12-31, 2023-12-31T23:59, 2023-12-31 23:59:59.123+01:00
    DateFormat(
        f"([0-9]{{4}})-([0-9]{{2}})-([0-9]{{2}})(?:[T ]{_HOUR}(?::{_MINUTE}(?::{_MINUTE}(?:[.,]([0-9]+))?)?)?{_ZONE})?",
        year=1, month=2, day=3, hour=4, minute=5, second=6, fraction=7, zone=8,
    ),
    # ISO 8601, basic: 20231231, 20231231T235959Z
    DateFormat(
        f"([0-9]{{4}})([0-9]{{2}})([0-9]{{2}})(?:T{_HOUR}(?:{_MINUTE}(?:{_MINUTE}(?:[.,]([0-9]+))?)?)?{_ZONE})?",
        year=1, month=2, day=3, hour=4, minute=5, second=6, fraction=7, zone=8,
    ),
    # %d/%m/%Y %H:%M
    DateFormat("([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}) +([01]?[0-9]|2[0-3]):([0-5]?[0-9])", day=1, month=2, year=3, hour=4, minute=5),
    # %d-%m-%Y %H:%M:%S
    DateFormat(
        "([0-9]{1,2})-([0-9]{1,2})-([0-9]{4}) +([01]?[0-9]|2[0-3]):([0-5]?[0-9]):([0-5]?[0-9])",
        day=1, month=2, year=3, hour=4, minute=5, second=6,
    ),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Rules:
    """The rules in force. Bounds are inclusive; money in dollars.

    Two are the same where their fingerprints are: as keys, of numbers and dates that are remembered, they go by identity.
    """

    edition: int = 1  # raise it when the code that applies the rules changes what they mean
    withdrawn: tuple[str, ...] = ()  # ingestions whose events are rejected, whatever they say; in order
    most_bytes: int = MOST_MESSAGE_BYTES  # of an event's value as it is read; a longer one is malformed
    deepest_nesting: int = 100  # levels of a JSON value; a deeper one is malformed
    longest_key: int = 50_000  # of a JSON object, in UTF-16 code units: Spark's parser takes none that is longer
    asin: str = "[A-Z0-9]{10}"
    # sign, digits, fraction, exponent; a number of any length, surrounding spaces ignored
    number: str = " *([+-]?)([0-9]+)(?:\\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))? *"
    true: str = "[Tt][Rr][Uu][Ee]"
    false: str = "[Ff][Aa][Ll][Ss][Ee]"
    most_stars: int = 5
    most_count: int = 2**31 - 1  # reviews, boughtInLastMonth
    most_dollars: int = 1_000_000
    most_id: int = 2**31 - 1  # category ids: MongoDB's int
    most_name: int = 1_000  # characters of a category's name, which each of its products bears
    date_formats: tuple[DateFormat, ...] = DATE_FORMATS
    earliest_ms: int = 788_918_400_000  # 1995-01-01T00:00:00Z
    ahead_ms: int = DAY_MS  # how far past its Kafka timestamp an observation may lie
    level_dollars: int = 5  # width of a price level
    top_level_dollars: int = 300  # the last level has no upper bound

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits: the same for the same rules, another for others."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


RULES = Rules()
