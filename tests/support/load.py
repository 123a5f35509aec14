"""Random load: products of few keys, seen at moments that are often older than what is known, so that updates and late data happen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random

from support.events import CATEGORIES, NOW, PRODUCTS

from tidemark.catalog.events import Event

DAY = 86_400_000


def updates(random: Random, count: int, keys: int) -> Iterator[Event]:
    """Mostly valid product events, some categories, some rejections, some repeats of an ingestion's row."""
    for number in range(count):
        chance = random.random()
        if chance < 0.002:
            yield from names(random, 1)
            continue
        asin = f"B0T{random.randrange(keys):07d}"
        value = {
            "asin": asin,
            "title": f"Product {asin}, seen {number}",
            "stars": str(random.randrange(51) / 10),
            "reviews": str(random.randrange(1000)),
            "price": str(random.choice((0, random.randrange(40_000))) / 100),
            "listPrice": str(random.choice((0, random.randrange(50_000))) / 100),
            "category_id": str(random.randint(1, 12)) if chance > 0.01 else "none",
            "isBestSeller": random.choice(("True", "False")),
            "boughtInLastMonth": random.choice(("0", "50", "100")),
            "date": _text(NOW - random.randrange(300) * DAY),
        }
        headers = (("tide-ingestion", b"load"), ("tide-position", str(number // 2).encode())) if chance > 0.9 else ()
        yield Event(PRODUCTS, 0, 0, 0, asin.encode(), json.dumps(value).encode(), headers)


def names(random: Random, count: int) -> Iterator[Event]:
    """New names of the categories."""
    for _ in range(count):
        value = {"id": str(random.randint(1, 12)), "category_name": f"Category {random.randrange(100)}"}
        yield Event(CATEGORIES, 0, 0, 0, value["id"].encode(), json.dumps(value).encode())


def _text(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
