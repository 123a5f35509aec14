"""Generates synthetic catalogs: `python -m tidemark.ingest.generate --rows 20000 --days 3 --seed 1 --out FOLDER`.

Writes one categories.csv, and one products_DAY.csv per day with the same products: some with another price or category, some missing
on a day, some in two rows. Files are written row by row, so memory use is constant; the same arguments give the same bytes.
Prices, ratings and the share of missing values follow the Amazon Products 2023 catalog.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import NamedTuple

from tidemark.ingest.files import CATEGORY_COLUMNS, PRODUCT_COLUMNS

CATEGORIES = 248
UNKNOWN_CATEGORY = 999  # not in categories.csv
MAX_PRICE = 19_731.81  # dollars

BROKEN_SHARE = 0.0005  # invalid rows
TWICE_SHARE = 0.002  # products with two rows in the same file, with different prices
GONE_SHARE = 0.01  # products missing from a later day's file
REPRICED_SHARE = 0.3  # of later days' rows
MOVED_SHARE = 0.005

_ASIN = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BOUGHT = ("0", "50", "100", "200", "300", "400", "500", "600", "700", "800", "900", "1000", "2000", "3000", "10000")
_BOUGHT_WEIGHTS = (60, 18, 9, 4, 2, 1.5, 1, 0.8, 0.6, 0.5, 0.4, 1.2, 0.6, 0.3, 0.1)
_ADJECTIVES = ("Compact", "Waterproof", "Wireless", "Vintage", "Foldable", "Heavy-Duty", "Organic", "Ultra-Thin", "Retro", "Café-Style")
_NOUNS = ("Backpack", "Lamp", "Suitcase", "Keyboard", "Water Bottle", "Desk Organizer", "Drill", "Headphones", "Blanket", "Puzzle")
_DETAILS = (
    "Black",
    "2-Pack",
    "for Men & Women",
    'fits 15.6" laptops',
    "Größe M",
    "Blue, Large",
    "日本製",
    "Gift Idea",
    "with USB-C",
    "BPA-Free",
)
_AREAS = ("Home", "Kitchen", "Garden", "Office", "Travel", "Toys", "Beauty", "Automotive", "Sports", "Pet Supplies")
_GROUPS = ("Accessories", "Essentials", "Tools", "Storage", "Décor", "Parts & Equipment", "Care", "Sets")

log = logging.getLogger("tidemark.generate")


class Product(NamedTuple):
    """The constant fields of a product, and its price and category on the first day. Money in cents."""

    asin: str
    title: str
    image: str
    stars: str
    reviews: str
    price: int
    list_price: int
    category: int
    best_seller: bool
    bought: str


def categories() -> Iterator[tuple[str, str]]:
    """The id and name of each category."""
    for number in range(1, CATEGORIES + 1):
        yield str(number), f"{_AREAS[number % len(_AREAS)]}, {_GROUPS[number // len(_AREAS) % len(_GROUPS)]} {number}"


def products(rows: int, seed: int) -> Iterator[Product]:
    """The products of the catalog, always in the same order."""
    random = Random(f"products {seed}")
    for index in range(rows):
        price = _price(random)
        yield Product(
            asin=_asin(seed, index),
            title=_title(random),
            image=f"https://images.example/{random.getrandbits(48):012x}.jpg",
            stars="0.0" if random.random() < 0.085 else str(min(5.0, round(random.gauss(4.4, 0.35), 1))),
            reviews="0" if random.random() < 0.81 else str(int(random.paretovariate(0.6)) % 350_000),
            price=price,
            list_price=0 if random.random() < 0.68 else round(price * random.uniform(1.01, 2)),
            category=UNKNOWN_CATEGORY if random.random() < 0.0002 else 1 + int(CATEGORIES * random.random() ** 1.3),
            best_seller=random.random() < 0.006,
            bought=random.choices(_BOUGHT, _BOUGHT_WEIGHTS)[0],
        )


def day_rows(rows: int, seed: int, day: int) -> Iterator[list[str]]:
    """The rows of one day's file; the first day is 0."""
    random = Random(f"day {day} {seed}")
    for product in products(rows, seed):
        price, category = product.price, product.category
        if day and random.random() < GONE_SHARE:
            continue
        if day and random.random() < REPRICED_SHARE:
            price = round(price * random.uniform(0.7, 1.3))
        if day and random.random() < MOVED_SHARE:
            category = random.randint(1, CATEGORIES)
        if random.random() < TWICE_SHARE:
            yield _row(product, round(price * 1.1), category)
        row = _row(product, price, category)
        yield _broken(row, random) if random.random() < BROKEN_SHARE else row


def write(rows: int, days: int, seed: int, out: Path, first_day: date) -> Iterator[Path]:
    """Writes categories.csv and one file per day; yields each path when the file is complete."""
    out.mkdir(parents=True, exist_ok=True)
    yield _write(out / "categories.csv", CATEGORY_COLUMNS, categories())
    for day in range(days):
        path = out / f"products_{first_day + timedelta(days=day)}.csv"
        yield _write(path, PRODUCT_COLUMNS, day_rows(rows, seed, day))


def _write(path: Path, columns: tuple[str, ...], rows: Iterator[tuple[str, str]] | Iterator[list[str]]) -> Path:
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return unfinished.rename(path)


def _asin(seed: int, index: int) -> str:
    """Ten characters, unique for each index of a catalog, in no apparent order."""
    number = (index * 2_654_435_761 + seed * 97) % 36**7
    letters = ""
    for _ in range(7):
        number, letter = divmod(number, 36)
        letters = _ASIN[letter] + letters
    return f"B0T{letters}"


def _price(random: Random) -> int:
    chance = random.random()
    if chance < 0.023:
        return 0
    if chance < 0.0232:
        return round(random.uniform(1_000, MAX_PRICE) * 100)
    return max(1, round(random.lognormvariate(3.1, 0.95) * 100))


def _title(random: Random) -> str:
    chance = random.random()
    if chance < 0.0005:
        return "NULL"
    title = f"{random.choice(_ADJECTIVES)} {random.choice(_NOUNS)}, {random.choice(_DETAILS)}"
    return f"{title}\n{random.choice(_DETAILS)}" if chance < 0.001 else title


def _row(product: Product, price: int, category: int) -> list[str]:
    return [
        product.asin,
        product.title,
        product.image,
        f"https://shop.example/dp/{product.asin}",
        product.stars,
        product.reviews,
        f"{price / 100}",
        f"{product.list_price / 100}",
        str(category),
        str(product.best_seller),
        product.bought,
    ]


def _broken(row: list[str], random: Random) -> list[str]:
    match random.randrange(5):
        case 0:
            return row[:-1]
        case 1:
            return [row[0].lower(), *row[1:]]
        case 2:
            return [*row[:6], "n/a", *row[7:]]
        case 3:
            return [*row[:4], "11", *row[5:]]
        case _:
            return [*row[:8], "", *row[9:]]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a valid date: write it as 2024-01-31") from None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tidemark.ingest.generate", description="Generate synthetic product catalogs as CSV files."
    )
    parser.add_argument("--rows", type=int, default=20_000, help="number of products (default %(default)s)")
    parser.add_argument("--days", type=int, default=3, help="number of days, with one file each (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="random seed: another seed gives another catalog (default %(default)s)")
    parser.add_argument("--first-day", type=_day, default=date(2024, 1, 1), help="date of the first file (default %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    given = parser.parse_args()
    if given.rows < 1 or given.days < 1:
        parser.error("--rows and --days must be 1 or more")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    started = time.monotonic()
    try:
        for path in write(given.rows, given.days, given.seed, given.out, given.first_day):
            log.info("%s: %d bytes, %.1f s", path, path.stat().st_size, time.monotonic() - started)
    except OSError as error:
        log.error("cannot write to %s: %s", given.out, error.strerror or error)
        return 1
    except OverflowError:
        log.error("%d days from %s exceed the calendar: give fewer days or an earlier first day", given.days, given.first_day)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
