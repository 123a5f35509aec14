"""Generated events of every kind: what people's files hold, what they never should, and what sits on the edge of a rule."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from random import Random
from typing import Any

from tidemark.catalog.events import Event

NOW = 1_700_000_000_000  # Kafka timestamps lie around this millisecond
PRODUCTS, CATEGORIES = "ingest-product", "ingest-category"

_USUAL: dict[str, tuple[Any, ...]] = {
    "title": ("Backpack", "NULL", "", 'fits 15.6" laptops, black', "Größe M", "日本製 😀", "two\nlines", "a}b{", "back\\slash", "\x00"),
    "imgUrl": ("https://images.example/1.jpg", "", None),
    "productURL": ("https://shop.example/dp/1", ""),
    "stars": ("0", "0.0", "4.5", "5", 4.1, "4.45", "4.55", 3, "0.05", "5.0"),
    "reviews": ("0", "12", 7, "1.2e3", "5.0", "2147483647"),
    "price": ("0", "0.0", "4.99", "4.996", "5", "139.99", 12.5, "0.004", "0.005", "0.015", "299.99", "300", "19731.81", "1000000", "1e2"),
    "listPrice": ("0", "0.0", "159.99", "4.99", 20, "1000000.004"),
    "category_id": ("1", "2", "3", 4, "999", "5.0", "2147483647"),
    "isBestSeller": ("True", "False", "TRUE", "fAlSe", True, False),
    "boughtInLastMonth": ("0", "50", 100, "1e3", "10000"),
    "date": (
        *("2023-01-01", "2023-10-31T12:00:00Z", "2023-06-30T23:59:59.999Z", "2023-06-30 10:00", "2023-06-30T10:00:00.123456+02:00"),
        *("20230630T101112Z", "20230630", "31/12/2022 00:00", "1/2/2023 3:4", "31-12-2022 10:00:01", "2023-06-30T10,5", "1995-01-01"),
    ),
    "id": ("1", 2, "3", "248", "7.0"),
    "category_name": ("Luggage", "Caf\u00e9 & Bar", "NULL", " "),
}

_STRANGE: tuple[Any, ...] = (
    *(None, True, False, "", " ", "NaN", "Infinity", "-1", "-0", "+3", " 5 ", "5.", ".5", "5.5", "1e400", "1e-400", "1e999999999999999", "0e99", "--1"),
    *("0.0149999999999999999999999999", "4.4500000000000000000000000001", "1" * 400, "0." + "0" * 60 + "1e60", "٣", "1_000", "0x10", "1 2"),
    *("1000000.005", "1000000.0050000001", "2147483648", "1e-3", "10e-1", "5.04", "5.05", "5.06", "-0.004", "-0.005", "1.5e1", "1.55e1"),
    *("2023-02-29", "2024-02-29", "2023-13-01", "1994-12-31T23:59:59.999", "2023-12-31T24:00", "2023-12-31T10:00:60", "2023-06-30T10:00:00+24:00"),
    *("2023-11-15T22:13:20Z", "2023-11-15T22:13:20.001Z", "2023-11-16T00:13:20+02:00", "30.06.2023", "2023-W01-1", "0000-01-01", " 2023-01-01"),
    *({"a": 1}, [1, 2], [], 0, -5, 5.04, 1e300, "half \ud800 pair", {"\udc00": 1}, "B0T0000001", "b0t0000001", "B0T000000", "True ", "yes", "Ｔrue"),
)  # fmt: skip

_ASINS = tuple(f"B0T{number:07d}" for number in range(40))


def _field(name: str, random: Random, strange: float) -> Any:
    if random.random() < strange:
        return random.choice(_STRANGE)
    return random.choice(_ASINS) if name == "asin" else random.choice(_USUAL[name])


def _record(random: Random, category: bool) -> dict[str, Any]:
    strange = random.choice((0.0, 0.0, 0.0, 0.08, 0.3))
    names = ("id", "category_name") if category else ("asin", *(name for name in _USUAL if name not in ("id", "category_name")))
    record = {name: _field(name, random, strange) for name in names}
    if random.random() < 0.05:
        del record[random.choice(names)]
    if random.random() < 0.1:
        record[random.choice(("colour", "Price", "_tide_corrupt", "a.b"))] = random.choice((*_STRANGE, {"deep": [{"er": "\\u0041"}]}))
    return record


def _corrupted(text: str, random: Random) -> bytes:
    """What is no JSON object, or only just one."""
    end = text.rstrip("}")
    corrupted = random.choice(
        (
            *("", " ", "null", "5", "[]", '"text"', "{", "}", "{}", "[" + text + "]", text + " x", text + text, text + "}", text[:-1]),
            *(f" \n{text}\t\r\n", "\ufeff" + text, text.replace('"', "'"), end + ",}", end + ', "price": NaN}', end + ', "price": 04}'),
            *(end + ', "price": "7"}', end + ', "title": "a", "title": 5}', end + ', "x": "\t"}', end + ', "x": "\\ud83d\\ude00"}'),
            *(end + ', "x": "\\ud83d"}', end + ', "x": {"\\ude00": 1}}', end + ', "\\u0070rice": "9.99"}', end + ', "x": "\\x41"}'),
            *(end + ', "x": ' + "[" * 99 + "]" * 99 + "}", end + ', "x": ' + "[" * 100 + "]" * 100 + "}", end + ', "x": ' + "9" * 1500 + "}"),
            *(end + ', "x": {"a": "}"}}', end + ', "x": tru}', end + ' "x": 1}', end + ', x: 1}', "// no\n" + text, text.replace(":", "=", 1)),
        )
    )  # fmt: skip
    return corrupted.encode("utf-8", "surrogatepass")


def _headers(random: Random) -> tuple[tuple[str, bytes | None], ...]:
    if random.random() < 0.3:
        return ()
    numbers = (
        b"0",
        b"17",
        b"1699999999999",
        b"1700000000001",
        b"000000000000012",
        b"1234567890123456",
        b"-1",
        b" 1",
        b"1.0",
        b"",
        None,
        b"\xff",
    )
    names = {
        "tide-source": (b"csv", b"api", b"replay"),
        "tide-format": (b"json", b"json", b"json", b"json", b"json", b"csv", b"xml", None),
        "tide-ingestion": (b"a1", b"b2", b"", None, b"\xff", "ü".encode()),
        "tide-position": numbers,
        "tide-registered-at": numbers,
        "tide-replay-of": (b"ingest-product/0/7", b"", None),
        "another": (b"x", None),
        "tide-client": (b"shop", b"shop", b"other", b"", None, b"\xff", b"n" * 501),
        "tide-registered-by": numbers,
    }
    chosen = [name for name in names if random.random() < 0.5]
    if random.random() < 0.1:
        chosen.append(random.choice(tuple(names)))
    random.shuffle(chosen)
    return tuple((name, random.choice(names[name])) for name in chosen)


def _asin_of(value: bytes | None) -> bytes | None:
    found = re.search(rb'"asin": "([^"]*)"', value or b"")
    return found[1] if found else None


def any_event(random: Random, offset: int = 0) -> Event:
    """One event of either topic; its offset is the caller's."""
    category = random.random() < 0.15
    text = json.dumps(_record(random, category), ensure_ascii=random.random() < 0.5)
    chance = random.random()
    value: bytes | None
    if chance < 0.15:
        value = _corrupted(text, random)
    elif chance < 0.17:
        value = random.choice((None, b"\xff\xfe", b'{"title": "\xe9"}', text.encode("utf-8", "surrogatepass") + b"\xc3"))
    else:
        value = text.encode("utf-8", "surrogatepass")
    return Event(
        topic=CATEGORIES if category else PRODUCTS,
        partition=0 if category else random.randrange(3),
        offset=offset,
        timestamp=NOW + random.choice((0, 0, 1, -1, 1000)),
        key=random.choice((_asin_of(value), _asin_of(value), None, b"", b"B0T0000001", b"\xff")),
        value=value,
        headers=_headers(random),
    )


def any_log(random: Random, length: int) -> Iterator[Event]:
    """Events whose offsets differ, so that no two versions are the same."""
    for offset in range(length):
        yield any_event(random, offset)
