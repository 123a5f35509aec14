"""The validation rules and the cube's price levels, as data. Both layers are built from them; a fingerprint identifies a set of rules.

Patterns use the syntax common to Python's and Java's regular expressions. They are ASCII only and match whole texts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from tidemark.catalog.posts import Posts
from tidemark.catalog.topics import MAX_MESSAGE_BYTES

DAY_MS = 86_400_000


@dataclass(frozen=True)
class DateFormat:
    """A date format: a pattern and, for each component, the number of its group (1 is the first, 0 is none)."""

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
    """A set of validation rules. Bounds are inclusive; money is in dollars.

    Two sets of rules are equal if their fingerprints are. As keys of caches they are compared by identity.
    """

    edition: int = 1  # increment it when the code that applies the rules changes their meaning
    withdrawn: tuple[str, ...] = ()  # ingestions whose events are rejected whatever their content; sorted
    withdrawn_posts: tuple[Posts, ...] = ()  # the same for what clients posted; sorted
    keyed: bool = False  # the key of a product's event must be its ASIN
    max_bytes: int = MAX_MESSAGE_BYTES  # of an event's value, uncompressed; a longer one is malformed
    max_nesting: int = 100  # levels of a JSON value; a deeper one is malformed
    max_key_length: int = 50_000  # of a JSON object, in UTF-16 code units: the limit of Spark's parser
    asin: str = "[A-Z0-9]{10}"
    # sign, digits, fraction, exponent; a number of any length, surrounding spaces ignored
    number: str = " *([+-]?)([0-9]+)(?:\\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))? *"
    true: str = "[Tt][Rr][Uu][Ee]"
    false: str = "[Ff][Aa][Ll][Ss][Ee]"
    max_stars: int = 5
    max_count: int = 2**31 - 1  # reviews, boughtInLastMonth
    max_dollars: int = 1_000_000
    max_id: int = 2**31 - 1  # category ids: MongoDB's int
    max_name_length: int = 1_000  # characters of a category's name, which is stored with each of its products
    date_formats: tuple[DateFormat, ...] = DATE_FORMATS
    earliest_ms: int = 788_918_400_000  # 1995-01-01T00:00:00Z
    max_ahead_ms: int = DAY_MS  # how far an observation may be ahead of its Kafka timestamp
    level_dollars: int = 5  # width of a price level
    top_level_dollars: int = 300  # the last level has no upper bound

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that identify the rules: equal rules have equal fingerprints, different rules differ."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


RULES = Rules()
KEYED = Rules(keyed=True)  # for topics that others write to
