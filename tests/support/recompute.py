"""The oracle: states, rejections and reports worked out from the contract (design, section 9) alone.

It imports nothing of the project and shares none of its ways: numbers are Fractions, moments are counted from day numbers, the
newest comes last after sorting, JSON objects stay lists of pairs until they are judged. It serves two kinds of input:

- `recompute(events)`: raw events, any seven-tuples (topic, partition, offset, timestamp in ms, key, value, headers);
- `recompute_files(files)`: the CSV files themselves, as if ingestion had sent them.

Both give a `Recomputed`; `reports(recomputed)` gives the documents of every report view, and `differences(...)` compares a
view's documents with them: integers and texts exactly, averages and shares with a relative 1e-12.

Where the contract is silent this is how it is read:
- a JSON value may be nested 100 levels deep, and what a later duplicate of a key hides counts as much as what it does not;
- a value of more than 8 MiB is malformed, and so is one with a key of more than 50,000 UTF-16 code units; a category's name
  of more than 1,000 characters is none, and a header of more than 500 characters names nothing: MongoDB could not hold them;
- a string that holds half a surrogate pair is not UTF-8, hence malformed, even in a field that nobody reads;
- asin, numbers, isBestSeller and date may come as JSON numbers or booleans, read as they are written; title, category_name,
  imgUrl and productURL are JSON strings or absent; null is absent;
- ids end at 2^31-1, MongoDB's int; a header that counts something has one to fifteen ASCII digits, else it is as if absent;
- ISO 8601 is its calendar dates, basic or extended, with hours, minutes, seconds and a fraction of the second, all but the
  date optional; no week or day-of-year dates, no 24:00, no leap second, capital T or one space between date and time;
- the other two date formats take one or two digits a part, four for the year, one space or more in between;
- the categories of report_summary are those that have products.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

PRODUCT_FIELDS = (
    *("asin", "title", "imgUrl", "productURL", "stars", "reviews", "price", "listPrice"),
    *("category_id", "isBestSeller", "boughtInLastMonth"),
)
CATEGORY_FIELDS = ("id", "category_name")

MEASURES = (
    *("products", "priced", "price_cents", "rated", "stars_tenths"),
    *("reviews", "bought_floor", "discounted", "list_cents", "discount_cents"),
)

DAY = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NO_LIMIT = 10**18

Cell = tuple[int, int | None, bool]
Document = dict[str, Any]
Event = tuple[str, int, int, int, bytes | None, bytes | None, Sequence[tuple[str, bytes | None]]]
Where = tuple[str, int]  # file and byte position of a record


class Rejected(Exception):
    """Carries the reason."""


class Facts(NamedTuple):
    """What of a product state the cube asks for, and `where` the record is found again for the rest."""

    category_id: int
    price_cents: int
    list_cents: int
    stars_tenths: int
    reviews: int
    bought: int
    best_seller: bool
    moment: int
    where: Any


@dataclass
class Recomputed:
    """`rejections` are pairs of source and reason: a source is (file, position) of files, the text of the contract of events."""

    facts: dict[str, Facts]
    categories: dict[int, str]
    rejections: set[tuple[Any, str]]
    cube: dict[Cell, dict[str, int]]
    read: Callable[[Any], Mapping[str, str | None]] = field(repr=False)
    records: int = 0  # events, or records of the files

    @property
    def products(self) -> Products:
        return Products(self)


class Products(Mapping[str, Document]):
    """Product documents by ASIN, without their bookkeeping; each is made when it is asked for, from its record."""

    def __init__(self, recomputed: Recomputed) -> None:
        self._all = recomputed

    def __len__(self) -> int:
        return len(self._all.facts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all.facts)

    def __getitem__(self, asin: str) -> Document:
        facts = self._all.facts[asin]
        text = self._all.read(facts.where)
        return {
            "_id": asin,
            "asin": asin,
            "title": text["title"],
            "imgUrl": text.get("imgUrl"),
            "productURL": text.get("productURL"),
            "stars": _double(text["stars"]),
            "reviews": facts.reviews,
            "price": _double(text["price"]),
            "listPrice": _double(text["listPrice"]),
            "category_id": facts.category_id,
            "isBestSeller": facts.best_seller,
            "boughtInLastMonth": facts.bought,
            "category_name": category_name(self._all, facts.category_id),
            "price_level": level(facts.price_cents),
            "date": EPOCH + timedelta(milliseconds=facts.moment),
        }


# ---------------------------------------------------------------------------------------------------------------- values


@lru_cache(maxsize=1 << 17)
def number(text: str) -> Fraction | None:
    """The number a text says, None where it says none.

    Beyond 10^40 or closer to 0 than 10^-40 it is some such number: no rule tells these apart.
    """
    match = re.fullmatch(r" *([-+]?)(\d+)(\.\d+)?([eE][-+]?\d+)? *", text, re.ASCII)
    if match is None:
        return None
    fraction = (match[3] or ".")[1:]
    mantissa = _whole(match[2] + fraction)
    if mantissa == 0:
        return Fraction(0)
    if match[1] == "-":
        mantissa = -mantissa
    exponent_text = (match[4] or "e0")[1:]
    exponent = _whole(exponent_text.lstrip("+-")) * (-1 if exponent_text.startswith("-") else 1)
    most = len(text) + 40
    return mantissa * Fraction(10) ** max(-most - len(fraction), min(most, exponent - len(fraction)))


def _whole(digits: str) -> int:
    """int() of any length: Python's own refuses more than some thousand digits."""
    total = 0
    for start in range(0, len(digits), 1000):
        piece = digits[start : start + 1000]
        total = total * 10 ** len(piece) + int(piece)
    return total


def _double(text: str | None) -> float:
    return float((text or "").strip(" "))


@lru_cache(maxsize=1 << 17)
def units(text: str | None, per_unit: int, most: int) -> int | None:
    """A number in its smallest counted part (cents, tenths), rounded half to even; None where it is none or out of 0 to most."""
    value = None if text is None else number(text)
    if value is None:
        return None
    rounded = round(value * per_unit)  # of a Fraction, Python rounds half to even
    return rounded if 0 <= rounded <= most * per_unit else None


@lru_cache(maxsize=1 << 17)
def integer(text: str | None, least: int) -> int | None:
    value = None if text is None else number(text)
    return int(value) if value is not None and value.denominator == 1 and least <= value <= 2**31 - 1 else None


def truth(text: str | None) -> bool | None:
    # Only ASCII letters lower to these words but for the Kelvin sign and its like, which they do not hold.
    return {"true": True, "false": False}.get(text.lower()) if text is not None and text.isascii() else None


class _Cursor:
    """Reads a text from the left."""

    def __init__(self, text: str) -> None:
        self.left = text

    def digits(self, least: int, most: int) -> int:
        found = 0
        while found < most and self.left[found : found + 1] in set("0123456789"):
            found += 1
        if found < least:
            raise ValueError
        taken, self.left = self.left[:found], self.left[found:]
        return int(taken)

    def skip(self, *choices: str) -> str:
        """Takes the first of the choices that follows, raises ValueError where none does."""
        for choice in choices:
            if self.left.startswith(choice):
                self.left = self.left[len(choice) :]
                return choice
        raise ValueError

    def ended(self) -> None:
        if self.left:
            raise ValueError


@lru_cache(maxsize=1 << 16)
def moment(text: str | None) -> int | None:
    """Milliseconds since 1970 UTC; None where the text is no date."""
    for form in (_iso, _slashes, _dashes) if text else ():
        with contextlib.suppress(ValueError):
            return form(_Cursor(str(text)))
    return None


def _since_epoch(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError
    days = date(year, month, day).toordinal() - date(1970, 1, 1).toordinal()
    return ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000


def _iso(at: _Cursor) -> int:
    year = at.digits(4, 4)
    dash, colon, between = ("-", ":", ("T", " ")) if at.left.startswith("-") else ("", "", ("T",))
    at.skip(dash)
    month = at.digits(2, 2)
    at.skip(dash)
    day = at.digits(2, 2)
    parts, milliseconds, east = [0, 0, 0], 0, 0
    if at.left:
        at.skip(*between)
        parts[0] = at.digits(2, 2)
        for index in (1, 2):
            if at.left and at.left[0] not in "Z+-":
                at.skip(colon)
                parts[index] = at.digits(2, 2)
                if index == 2 and at.left[:1] in (".", ","):
                    at.skip(".", ",")
                    fraction = re.match(r"[0-9]+", at.left)
                    if fraction is None:
                        raise ValueError
                    at.left = at.left[fraction.end() :]
                    milliseconds = int((fraction[0] + "00")[:3])
        east = _zone(at) if at.left else 0
    at.ended()
    return _since_epoch(year, month, day, *parts) + milliseconds - east * 60_000


def _zone(at: _Cursor) -> int:
    """Minutes east of Greenwich."""
    sign = at.skip("Z", "+", "-")
    if sign == "Z":
        return 0
    hours, minutes = at.digits(2, 2), 0
    if at.left:
        if at.left[0] == ":":
            at.skip(":")
        minutes = at.digits(2, 2)
    if hours > 23 or minutes > 59:
        raise ValueError
    return (hours * 60 + minutes) * (1 if sign == "+" else -1)


def _spaces(at: _Cursor) -> None:
    at.skip(" ")
    at.left = at.left.lstrip(" ")


def _slashes(at: _Cursor) -> int:
    day, _, month, _, year = at.digits(1, 2), at.skip("/"), at.digits(1, 2), at.skip("/"), at.digits(4, 4)
    _spaces(at)
    hour, _, minute = at.digits(1, 2), at.skip(":"), at.digits(1, 2)
    at.ended()
    return _since_epoch(year, month, day, hour, minute, 0)


def _dashes(at: _Cursor) -> int:
    day, _, month, _, year = at.digits(1, 2), at.skip("-"), at.digits(1, 2), at.skip("-"), at.digits(4, 4)
    _spaces(at)
    hour, _, minute, _, second = at.digits(1, 2), at.skip(":"), at.digits(1, 2), at.skip(":"), at.digits(1, 2)
    at.ended()
    return _since_epoch(year, month, day, hour, minute, second)


def level(price_cents: int) -> int | None:
    """The level's lower bound in dollars; None for unknown."""
    return None if price_cents == 0 else 300 if price_cents >= 30_000 else bisect_right(_BOUNDS, price_cents) * 5 - 5


_BOUNDS = range(0, 30_000, 500)


def label(price_level: int | None) -> str:
    return "unknown" if price_level is None else "$300+" if price_level == 300 else f"${price_level}-{price_level + 5}"


# --------------------------------------------------------------------------------------------------------------- validation


def _judged_product(text: Mapping[str, str | None], latest: int, where: Any, keys: Sequence[bytes | None] = ()) -> tuple[str, Facts]:
    """ASIN and facts of a record, which must be keyed by these. Raises Rejected with the first reason."""
    asin = text.get("asin")
    if asin is None or re.fullmatch("[A-Z0-9]{10}", asin) is None:
        raise Rejected("asin")
    if any(key is None or str(key, "latin-1") != asin for key in keys):
        raise Rejected("key")
    if text.get("title") is None:
        raise Rejected("title")
    stars_tenths = _need("stars", units(text.get("stars"), 10, 5))
    reviews = _need("reviews", integer(text.get("reviews"), 0))
    bought = _need("boughtInLastMonth", integer(text.get("boughtInLastMonth"), 0))
    price_cents = _need("price", units(text.get("price"), 100, 1_000_000))
    list_cents = _need("listPrice", units(text.get("listPrice"), 100, 1_000_000))
    category_id = _need("category_id", integer(text.get("category_id"), 1))
    best_seller = _need("isBestSeller", truth(text.get("isBestSeller")))
    observed_at = _need("date", moment(text.get("date")))
    if not _since_epoch(1995, 1, 1, 0, 0, 0) <= observed_at <= latest:
        raise Rejected("date")
    return asin, Facts(category_id, price_cents, list_cents, stars_tenths, reviews, bought, bool(best_seller), observed_at, where)


def _need(reason: str, value: int | None) -> int:
    if value is None:
        raise Rejected(reason)
    return value


def _judged_category(text: Mapping[str, str | None]) -> tuple[int, str]:
    number = _need("id", integer(text.get("id"), 1))
    name = text.get("category_name")
    if not name or len(name) > 1000:
        raise Rejected("category_name")
    return number, name


# ---------------------------------------------------------------------------------------------------------------- events


def recompute(
    events: Iterable[Event],
    category_topic: str = "ingest-category",
    before: int = NO_LIMIT,
    withdrawn: Collection[str] = (),
    *,
    withdrawn_posts: Collection[tuple[str, int, int]] = (),
    keyed: bool = False,
) -> Recomputed:
    """From raw events; every topic but the category topic holds products. Of these only what was observed before that millisecond.

    `withdrawn` are ingestions that do not count, `withdrawn_posts` clients of the API whose events do not from one millisecond to before
    another. With `keyed` the key of a product's event must be its ASIN.
    """
    log = list(events)
    products: list[tuple[tuple[int, ...], str, Facts]] = []
    names: list[tuple[tuple[int, ...], int, str]] = []
    rejections: set[tuple[Any, str]] = set()
    for index, (topic, partition, offset, timestamp, key, value, headers) in enumerate(log):
        last = dict(headers)
        position = _counted(last.get("tide-position"))
        registered_at = _counted(last.get("tide-registered-at"))
        if registered_at is None:
            latest = _counted(last.get("tide-registered-by"))
            registered_at = timestamp if latest is None or latest > timestamp else latest
        version = (registered_at, position or 0, partition, offset)
        try:
            if position is not None and _plain(last.get("tide-ingestion")) in withdrawn:
                raise Rejected("withdrawn")
            client = _plain(last.get("tide-client"))
            if any(one == client and timestamp in range(first, end) for one, first, end in withdrawn_posts):
                raise Rejected("withdrawn")
            text = _texts(value, last)
            if topic == category_topic:
                names.append((version, *_judged_category(text)))
            else:
                asin, facts = _judged_product(text, timestamp + DAY, index, (key,) if keyed else ())
                if facts.moment < before:
                    products.append(((facts.moment, *version), asin, facts))
        except Rejected as rejected:
            rejections.add((_source(topic, partition, offset, position, last), str(rejected)))
    products.sort(key=lambda one: one[0])
    names.sort(key=lambda one: one[0])
    return _summed(
        facts={asin: facts for _, asin, facts in products},
        categories={number: name for _, number, name in names},
        rejections=rejections,
        read=lambda index: _texts(log[index][5], {}),
        records=len(log),
    )


def _counted(value: bytes | None) -> int | None:
    return int(value) if value is not None and re.fullmatch(rb"[0-9]{1,15}", value) else None


def _plain(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _source(topic: str, partition: int, offset: int, position: int | None, headers: Mapping[str, bytes | None]) -> str:
    ingestion, replay_of = (_plain(headers.get(name)) or "" for name in ("tide-ingestion", "tide-replay-of"))
    if 0 < len(ingestion) <= 500 and position is not None:
        return f"{ingestion}:{position}"
    return replay_of if 0 < len(replay_of) <= 500 else f"{topic}/{partition}/{offset}"


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written, duplicates and all."""


class _Written(str):
    """A JSON number, as it is written."""


_STRINGS_ONLY = frozenset({"title", "category_name", "imgUrl", "productURL"})


def _texts(value: bytes | None, headers: Mapping[str, bytes | None]) -> dict[str, str | None]:
    """A JSON object's fields as texts. Raises Rejected where the value is no JSON object."""
    if value is None or len(value) > 8 << 20 or headers.get("tide-format") == b"csv":
        raise Rejected("malformed")
    try:
        record = json.loads(
            str(value, "utf-8"), parse_int=_Written, parse_float=_Written, parse_constant=float.fromhex, object_pairs_hook=_Pairs
        )
        if not isinstance(record, _Pairs):
            raise Rejected("malformed")
        _sound(record)
    except (ValueError, RecursionError):
        raise Rejected("malformed") from None
    texts: dict[str, str | None] = {}
    for name, one in record:
        if isinstance(one, bool):
            one = "true" if one else "false"
            kept = name not in _STRINGS_ONLY
        else:
            kept = isinstance(one, str) and not (isinstance(one, _Written) and name in _STRINGS_ONLY)
        texts[name] = str(one) if kept else None
    return texts


def _sound(record: _Pairs) -> None:
    """Raises ValueError for nesting of more than 100 levels and for half surrogate pairs. NaN and infinities are floats here."""
    todo: list[tuple[Any, int]] = [(record, 1)]
    while todo:
        one, depth = todo.pop()
        if isinstance(one, str):
            one.encode("utf-8")
        elif isinstance(one, float):
            raise ValueError
        elif isinstance(one, list):
            if depth > 100:
                raise ValueError
            for inner in one:
                if isinstance(one, _Pairs):
                    if len(inner[0].encode("utf-16-le")) > 100_000:
                        raise ValueError
                    todo += (inner[0], depth), (inner[1], depth + 1)
                else:
                    todo.append((inner, depth + 1))


# ----------------------------------------------------------------------------------------------------------------- files


class CsvFile(NamedTuple):
    """`kind` is product or category; `observed_at` a date as the contract writes them or a datetime in UTC (unused for categories);
    `registered_at` any number that grows with the order in which the files were registered. `timestamp` (ms) is Kafka's, for the rule
    that nothing is observed more than a day ahead of it; None where that is not in question."""

    path: Path | str
    kind: str
    observed_at: datetime | str
    registered_at: int
    timestamp: int | None = None


def recompute_files(files: Iterable[CsvFile]) -> Recomputed:
    """From CSV files. Raises ValueError for a file whose header is not that of its kind: ingestion refuses it as a whole."""
    facts: dict[str, Facts] = {}
    names: dict[int, str] = {}
    rejections: set[tuple[Any, str]] = set()
    records = 0
    # From the oldest moment on, so that whatever comes later replaces what is there.
    dated = [(_observed(one) if one.kind == "product" else 0, one.registered_at, one) for one in (CsvFile(*file) for file in files)]
    for observed_at, _, one in sorted(dated, key=lambda file: file[:2]):
        header = PRODUCT_FIELDS if one.kind == "product" else CATEGORY_FIELDS
        latest = NO_LIMIT if one.timestamp is None else one.timestamp + DAY
        written = (EPOCH + timedelta(milliseconds=observed_at)).isoformat()
        path = str(one.path)
        for position, fields in csv_records(Path(path).read_bytes(), header):
            records += 1
            try:
                text = _row(header, fields)
                if one.kind == "product":
                    text["date"] = written
                    asin, found = _judged_product(text, latest, (path, position))
                    facts[asin] = found
                else:
                    number, name = _judged_category(text)
                    names[number] = name
            except Rejected as rejected:
                rejections.add(((path, position), str(rejected)))
    return _summed(facts=facts, categories=names, rejections=rejections, read=_reread, records=records)


def _observed(file: CsvFile) -> int:
    if isinstance(file.observed_at, str):
        found = moment(file.observed_at)
        if found is None:
            raise ValueError(f"{file.path}: no date: {file.observed_at}")
        return found
    return (file.observed_at - EPOCH) // timedelta(milliseconds=1)


def _row(header: tuple[str, ...], fields: list[str]) -> dict[str, str | None]:
    if len(fields) != len(header):
        raise Rejected("malformed")
    if not all(map(str.isascii, fields)):
        try:
            "".join(fields).encode("utf-8")
        except UnicodeEncodeError:
            raise Rejected("malformed") from None
    return dict(zip(header, fields, strict=True))


def csv_records(content: bytes, header: tuple[str, ...] | None = None) -> Iterator[tuple[int, list[str]]]:
    """A file's records with the byte where each starts, as csv.reader reads them; what is not UTF-8 shows as lone surrogates.

    Without a header the content starts with a record, else with a header that must be that one. Empty lines are no records.
    """
    start = 3 if header is not None and content.startswith(b"\xef\xbb\xbf") else 0
    taken = start

    def lines() -> Iterator[str]:
        nonlocal taken
        source = io.BytesIO(content)
        source.seek(start)
        for line in source:
            # As open(newline="") splits lines: at every CR, LF and CR LF.
            pieces = re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", line) if b"\r" in line[:-2] else (line,)
            for piece in pieces:
                taken += len(piece)
                yield piece.decode("utf-8", "surrogateescape")

    with _any_field_size():
        position = start
        for fields in csv.reader(lines()):
            here, position = position, taken
            if header is not None:
                if fields != list(header):
                    raise ValueError(f"the header is {fields}, not {list(header)}")
                header = None
            elif fields:
                yield here, fields
    if header is not None:
        raise ValueError("no header")


@contextlib.contextmanager
def _any_field_size() -> Iterator[None]:
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _reread(where: Where) -> dict[str, str | None]:
    path, position = where
    with Path(path).open("rb") as file:
        size = 1 << 13
        while True:
            file.seek(position)
            content = file.read(size)
            found = list(zip(range(2), csv_records(content), strict=False))
            if len(found) == 2 or len(content) < size:  # with a second one begun, the first is whole
                return dict(zip(PRODUCT_FIELDS, found[0][1][1], strict=True))
            size *= 8


# --------------------------------------------------------------------------------------------------------------- reports


def _summed(
    facts: dict[str, Facts],
    categories: dict[int, str],
    rejections: set[tuple[Any, str]],
    read: Callable[[Any], Mapping[str, str | None]],
    records: int,
) -> Recomputed:
    sums: defaultdict[Cell, list[int]] = defaultdict(lambda: [0] * len(MEASURES))
    for one in facts.values():
        price, list_price, tenths = one.price_cents, one.list_cents, one.stars_tenths
        cell = sums[one.category_id, level(price), one.best_seller]
        cell[0] += 1
        if price:
            cell[1] += 1
            cell[2] += price
        if tenths:
            cell[3] += 1
            cell[4] += tenths
        cell[5] += one.reviews
        cell[6] += one.bought
        if list_price > price > 0:
            cell[7] += 1
            cell[8] += list_price
            cell[9] += list_price - price
    cube = {cell: dict(zip(MEASURES, measures, strict=True)) for cell, measures in sums.items()}
    return Recomputed(facts, categories, rejections, cube, read, records)


def category_name(recomputed: Recomputed, category_id: int) -> str:
    return recomputed.categories.get(category_id, f"Unknown category {category_id}")


def rolled(cube: Mapping[Cell, Mapping[str, int]], key: Callable[[Cell], Any]) -> dict[Any, dict[str, int]]:
    """The cube's sums by another key, with best_sellers beside the measures."""
    total: dict[Any, dict[str, int]] = {}
    for cell, measures in cube.items():
        sums = total.setdefault(key(cell), dict.fromkeys((*MEASURES, "best_sellers"), 0))
        for measure, value in measures.items():
            sums[measure] += value
        sums["best_sellers"] += measures["products"] if cell[2] else 0
    return total


def over(dividend: int, divisor: int) -> float | None:
    """The double nearest to the quotient; None over nothing."""
    return dividend / divisor if divisor else None


def reports(recomputed: Recomputed) -> dict[str, list[Document]]:
    """The documents of report_cube, report_price_level, report_category and report_summary, in order of their keys."""
    cube = recomputed.cube
    everything = rolled(cube, lambda cell: None).get(None) or dict.fromkeys((*MEASURES, "best_sellers"), 0)
    products = everything["products"]
    by_category = rolled(cube, lambda cell: cell[0])
    return {
        "report_cube": [
            {
                "category_id": category_id,
                "category_name": category_name(recomputed, category_id),
                "price_level": price_level,
                "label": label(price_level),
                "is_best_seller": best_seller,
                **measures,
            }
            for (category_id, price_level, best_seller), measures in sorted(cube.items(), key=lambda one: _sortable(one[0]))
        ],
        "report_price_level": [
            {
                "price_level": price_level,
                "label": label(price_level),
                "products": sums["products"],
                "share": sums["products"] / products,
            }
            for price_level, sums in sorted(rolled(cube, lambda cell: cell[1]).items(), key=lambda one: _sortable(one[:1]))
        ],
        "report_category": [
            {
                "category_id": category_id,
                "category_name": category_name(recomputed, category_id),
                "products": sums["products"],
                "share": sums["products"] / products,
                "average_price": over(sums["price_cents"], sums["priced"] * 100),
                "average_stars": over(sums["stars_tenths"], sums["rated"] * 10),
                "best_sellers": sums["best_sellers"],
                "bought_floor": sums["bought_floor"],
                "discounted": sums["discounted"],
                "average_discount": over(sums["discount_cents"], sums["list_cents"]),
            }
            for category_id, sums in sorted(by_category.items())
        ],
        "report_summary": [
            {
                "products": products,
                "categories": len(by_category),
                "average_price": over(everything["price_cents"], everything["priced"] * 100),
                "average_stars": over(everything["stars_tenths"], everything["rated"] * 10),
                "best_sellers": everything["best_sellers"],
                "discounted": everything["discounted"],
                "bought_floor": everything["bought_floor"],
            }
        ],
    }


KEYS = {
    "report_cube": ("category_id", "price_level", "is_best_seller"),
    "report_price_level": ("price_level",),
    "report_category": ("category_id",),
    "report_summary": (),
}


def _sortable(key: Iterable[Any]) -> tuple[tuple[bool, Any], ...]:
    return tuple((part is not None, 0 if part is None else part) for part in key)


def same(expected: object, actual: object) -> bool:
    """Doubles with a relative 1e-12, everything else exactly: an integer is no double, true is no 1, null is nothing else."""
    if isinstance(expected, float):
        return isinstance(actual, float) and math.isclose(expected, actual, rel_tol=1e-12, abs_tol=0.0)
    if isinstance(expected, bool) or isinstance(actual, bool) or expected is None or actual is None:
        return expected is actual
    if isinstance(expected, int):
        return isinstance(actual, int) and expected == actual
    return expected == actual


SHOWN = 20  # of what is wrong with a view


def differences(view: str, expected: Iterable[Document], actual: Iterable[Document]) -> list[str]:
    """What is wrong with a view's documents, a line each; empty where they are the expected ones."""
    key = KEYS[view]

    def keyed(documents: Iterable[Document]) -> tuple[dict[Any, Document], list[str]]:
        found: dict[Any, Document] = {}
        twice = []
        for one in documents:
            at = tuple(one.get(name) for name in key)
            if at in found:
                twice.append(f"{view} {at}: comes twice")
            found[at] = one
        return found, twice

    (wanted, wrong), (got, twice) = keyed(expected), keyed(actual)
    wrong += twice
    for at in sorted({*wanted, *got}, key=_sortable):
        if at not in got:
            wrong.append(f"{view} {at}: missing")
        elif at not in wanted:
            wrong.append(f"{view} {at}: should not be there")
        else:
            one, other = wanted[at], got[at]
            if one.keys() != other.keys():
                wrong.append(f"{view} {at}: fields {sorted(other)} instead of {sorted(one)}")
            wrong += [
                f"{view} {at}: {name} is {other[name]!r} instead of {one[name]!r}"
                for name in one
                if name in other and not same(one[name], other[name])
            ]
    return wrong if len(wrong) <= SHOWN else [*wrong[:SHOWN], f"and {len(wrong) - SHOWN} more"]
