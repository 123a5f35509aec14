"""Validation: an event becomes an observation, or a rejection whose reason is the first rule that fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from functools import lru_cache, partial
from typing import Any, NamedTuple, NoReturn, TypeVar, TypeVarTuple

from tidemark.catalog.events import FORMAT, Event
from tidemark.catalog.rules import RULES, DateFormat, Rules
from tidemark.catalog.versions import CategoryVersion, Version

# The JSON escape of one half of a surrogate pair.
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

# A catalog repeats its prices, counts and dates: a cache lookup takes a tenth of the time of parsing.
_REMEMBERED_TEXTS = 1 << 16
_LONGEST_REMEMBERED = 40  # characters
_EXACT = Context(prec=_LONGEST_REMEMBERED + 20)  # keeps every digit of a text that short

_More = TypeVarTuple("_More")
_Answer = TypeVar("_Answer")


class Reason(StrEnum):
    """Why an event is rejected: the field whose rule it breaks, or its key. Members are in the order in which the rules are checked."""

    WITHDRAWN = "withdrawn"
    MALFORMED = "malformed"
    ASIN = "asin"
    KEY = "key"
    TITLE = "title"
    STARS = "stars"
    REVIEWS = "reviews"
    BOUGHT = "boughtInLastMonth"
    PRICE = "price"
    LIST_PRICE = "listPrice"
    CATEGORY_ID = "category_id"
    BEST_SELLER = "isBestSeller"
    DATE = "date"
    ID = "id"
    CATEGORY_NAME = "category_name"


class Rejection(NamedTuple):
    event: Event
    reason: Reason


class ProductObservation(NamedTuple):
    """A product as observed at a moment. Money is in dollars as received, and in cents rounded half to even; stars likewise in tenths."""

    asin: str
    title: str
    img_url: str | None
    product_url: str | None
    stars: float
    stars_tenths: int
    reviews: int
    price: float
    price_cents: int
    list_price: float
    list_price_cents: int
    category_id: int
    is_best_seller: bool
    bought_in_last_month: int
    observed_at: int
    version: Version


class CategoryObservation(NamedTuple):
    """A category's name according to one event."""

    id: int
    name: str
    version: CategoryVersion


class _Broken(Exception):
    """A rule is broken; carries the reason."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason


class _NumberText(str):
    """A JSON number in its original text form."""


def _remembered(read: Callable[[str, *_More], _Answer]) -> Callable[[str, *_More], _Answer]:
    """The same function with a cache for short texts."""
    remembered = lru_cache(_REMEMBERED_TEXTS)(read)

    def look_up(text: str, /, *more: *_More) -> _Answer:
        return remembered(text, *more) if len(text) <= _LONGEST_REMEMBERED else read(text, *more)

    return look_up


def decoder(object_from: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None) -> json.JSONDecoder:
    """A JSON decoder for the rules: numbers stay text, NaN and infinities are refused.

    `object_from` builds each object from its pairs, so it also sees pairs that a later duplicate key overrides.
    """
    return json.JSONDecoder(parse_int=_NumberText, parse_float=_NumberText, parse_constant=_no_number, object_pairs_hook=object_from)


def product_observation(event: Event, rules: Rules = RULES, reader: json.JSONDecoder | None = None) -> ProductObservation | Rejection:
    """Validates an event of the product topic. `reader` is a decoder() of the caller, for one that inspects the pairs."""
    try:
        record = _record(event, rules, reader)
        asin = _text(record.get("asin"))
        if asin is None or not re.fullmatch(rules.asin, asin):
            raise _Broken(Reason.ASIN)
        if rules.keyed and event.key != asin.encode():
            raise _Broken(Reason.KEY)
        title = _string(record.get("title"))
        if title is None:
            raise _Broken(Reason.TITLE)
        stars, stars_tenths = _scaled(record, Reason.STARS, rules, digits=1, most=rules.max_stars)
        reviews = _integer(record, Reason.REVIEWS, rules, 0, rules.max_count)
        bought = _integer(record, Reason.BOUGHT, rules, 0, rules.max_count)
        price, price_cents = _scaled(record, Reason.PRICE, rules, digits=2, most=rules.max_dollars)
        list_price, list_price_cents = _scaled(record, Reason.LIST_PRICE, rules, digits=2, most=rules.max_dollars)
        category_id = _integer(record, Reason.CATEGORY_ID, rules, 1, rules.max_id)
        is_best_seller = _boolean(record, Reason.BEST_SELLER, rules)
        observed_at = moment(_text(record.get("date")), rules)
        if observed_at is None or not rules.earliest_ms <= observed_at <= event.timestamp + rules.max_ahead_ms:
            raise _Broken(Reason.DATE)
    except _Broken as broken:
        return Rejection(event, broken.reason)
    return ProductObservation(
        asin=asin,
        title=title,
        img_url=_string(record.get("imgUrl")),
        product_url=_string(record.get("productURL")),
        stars=stars,
        stars_tenths=stars_tenths,
        reviews=reviews,
        price=price,
        price_cents=price_cents,
        list_price=list_price,
        list_price_cents=list_price_cents,
        category_id=category_id,
        is_best_seller=is_best_seller,
        bought_in_last_month=bought,
        observed_at=observed_at,
        version=Version.of(event, observed_at),
    )


def category_observation(event: Event, rules: Rules = RULES, reader: json.JSONDecoder | None = None) -> CategoryObservation | Rejection:
    """Validates an event of the category topic. `reader` as in product_observation."""
    try:
        record = _record(event, rules, reader)
        number = _integer(record, Reason.ID, rules, 1, rules.max_id)
        name = _string(record.get("category_name"))
        if not name or len(name) > rules.max_name_length:
            raise _Broken(Reason.CATEGORY_NAME)
    except _Broken as broken:
        return Rejection(event, broken.reason)
    return CategoryObservation(number, name, CategoryVersion.of(event))


def _record(event: Event, rules: Rules, reader: json.JSONDecoder | None) -> dict[str, Any]:
    """The event's value as a JSON object whose numbers are text."""
    if (rules.withdrawn and event.ingestion in rules.withdrawn) or any(posts.contain(event) for posts in rules.withdrawn_posts):
        raise _Broken(Reason.WITHDRAWN)
    value = event.value
    if value is None or len(value) > rules.max_bytes or event.header(FORMAT) == "csv":
        raise _Broken(Reason.MALFORMED)
    try:
        text = value.decode()
        if len(value) > rules.max_key_length or _ESCAPED_SURROGATE.search(value):
            decoder(partial(_storable, rules)).decode(text)
        record = (reader or _DECODER).decode(text)
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise _Broken(Reason.MALFORMED) from None
    if not isinstance(record, dict):
        raise _Broken(Reason.MALFORMED)
    # The number of brackets bounds the nesting depth.
    if value.count(b"{") + value.count(b"[") > rules.max_nesting and _depth(record) > rules.max_nesting:
        raise _Broken(Reason.MALFORMED)
    return record


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _depth(value: object) -> int:
    """Levels of nested objects and arrays. Iterative, so that no recursion limit applies."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def _storable(rules: Rules, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's pairs as a dict. Raises ValueError for a key that is too long or half a surrogate pair, which UTF-8 cannot encode."""
    if any(len(key.encode("utf-16-le")) > 2 * rules.max_key_length for key, _ in pairs):
        raise ValueError("a key is too long")
    inner: list[object] = [pairs]
    while inner:
        match inner.pop():
            case str() as text:
                text.encode()
            case list() | tuple() as several:
                inner.extend(several)
    return dict(pairs)


_DECODER = decoder()


def _string(value: object) -> str | None:
    """The value if it is a JSON string, else None."""
    return value if isinstance(value, str) and not isinstance(value, _NumberText) else None


def _text(value: object) -> str | None:
    """A JSON string, number or boolean as text; None for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None


def _number(text: str, rules: Rules) -> tuple[Decimal, float] | None:
    """A number, exact and as the nearest double; None if the text is not a number."""
    match = re.fullmatch(rules.number, text)
    if match is None:
        return None
    sign, whole, fraction, exponent_sign, exponent = match.groups(default="")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return Decimal(0), float(text)
    if not exponent:
        return Decimal(text.strip(" ")), float(text)
    # A number with a longer exponent is out of every range, or rounds to 0, whatever its other digits are.
    shift = int((exponent.lstrip("0") or "0")[:12]) if len(exponent.lstrip("0")) <= 12 else 10**12
    shift = -shift if exponent_sign == "-" else shift
    return Decimal((1 if sign == "-" else 0, tuple(map(int, digits)), shift - len(fraction))), float(text)


def _scaled(record: dict[str, Any], reason: Reason, rules: Rules, *, digits: int, most: int) -> tuple[float, int]:
    """A field's number as a double, and as an integer in units of its last significant digit (cents, tenths), from 0 to `most`."""
    text = _text(record.get(reason.value))
    found = None if text is None else _scaled_number(text, rules, digits, most)
    if found is None:
        raise _Broken(reason)
    return found


@_remembered
def _scaled_number(text: str, rules: Rules, digits: int, most: int) -> tuple[float, int] | None:
    number = _number(text, rules)
    if number is None:
        return None
    exact, double = number
    if exact.adjusted() > 12:
        return None
    exactly = _EXACT if len(text) <= _LONGEST_REMEMBERED else Context(prec=len(text) + 20)
    scaled = 0 if exact.adjusted() < -12 else int(exact.scaleb(digits, exactly).to_integral_value(ROUND_HALF_EVEN, exactly))
    return (double, scaled) if 0 <= scaled <= most * 10**digits else None


def _integer(record: dict[str, Any], reason: Reason, rules: Rules, least: int, most: int) -> int:
    """A field's whole number. 5.0 and 1.2e3 are whole numbers, 5.5 is not."""
    text = _text(record.get(reason.value))
    found = None if text is None else _whole_number(text, rules, least, most)
    if found is None:
        raise _Broken(reason)
    return found


@_remembered
def _whole_number(text: str, rules: Rules, least: int, most: int) -> int | None:
    number = _number(text, rules)
    if number is None or not -12 <= number[0].adjusted() <= 12 or number[0] != int(number[0]) or not least <= number[0] <= most:
        return None
    return int(number[0])


def _boolean(record: dict[str, Any], reason: Reason, rules: Rules) -> bool:
    text = _text(record.get(reason.value))
    found = None if text is None else _truth(text, rules)
    if found is None:
        raise _Broken(reason)
    return found


@_remembered
def _truth(text: str, rules: Rules) -> bool | None:
    if re.fullmatch(rules.true, text):
        return True
    return False if re.fullmatch(rules.false, text) else None


def moment(text: str | None, rules: Rules = RULES) -> int | None:
    """A date as milliseconds since 1970 UTC, finer fractions truncated; None if it is not a date. Without a zone it is in UTC."""
    return None if text is None else _moment(text, rules)


@_remembered
def _moment(text: str, rules: Rules) -> int | None:
    for form in rules.date_formats:
        if match := re.fullmatch(form.pattern, text):
            return _milliseconds(form, match)
    return None


def _milliseconds(form: DateFormat, match: re.Match[str]) -> int | None:
    def part(group: int) -> int:
        return int((group and match[group]) or 0)

    try:
        there = datetime(
            part(form.year), part(form.month), part(form.day), part(form.hour), part(form.minute), part(form.second), tzinfo=UTC
        )
    except ValueError:
        return None
    fraction = int(((form.fraction and match[form.fraction]) or "")[:3].ljust(3, "0"))
    zone = (form.zone and match[form.zone]) or "Z"
    offset_minutes = 0
    if zone != "Z":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset_minutes = (int(digits[:2]) * 60 + int(digits[2:])) * (-1 if zone[0] == "-" else 1)
    return int(there.timestamp()) * 1000 + fraction - offset_minutes * 60_000
