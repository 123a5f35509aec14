"""The cube: sums of contributions by cell. They form a commutative group, so a state can be subtracted exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from typing import NamedTuple

from tidemark.catalog.observations import ProductObservation
from tidemark.catalog.rules import RULES, Rules


class Cell(NamedTuple):
    """`price_level` is the level's lower bound in dollars; None if the price is unknown."""

    category_id: int
    price_level: int | None
    is_best_seller: bool


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one product state adds to its cell, or the sums of a cell. All values are integers: counts, cents, tenths of stars."""

    products: int = 0
    priced: int = 0
    price_cents: int = 0
    rated: int = 0
    stars_tenths: int = 0
    reviews: int = 0
    bought_floor: int = 0
    discounted: int = 0
    list_cents: int = 0
    discount_cents: int = 0

    def __add__(self, other: Contribution) -> Contribution:
        return Contribution(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __neg__(self) -> Contribution:
        return Contribution(*(-a for a in astuple(self)))

    def __sub__(self, other: Contribution) -> Contribution:
        return self + -other

    def __bool__(self) -> bool:
        return any(astuple(self))


MEASURES: tuple[str, ...] = tuple(field.name for field in fields(Contribution))

Cube = Mapping[Cell, Contribution]


def price_level(price_cents: int, rules: Rules = RULES) -> int | None:
    """The lower bound, in dollars, of the level that contains a price in cents. None for 0, which means unknown."""
    if price_cents == 0:
        return None
    return min(price_cents // (rules.level_dollars * 100) * rules.level_dollars, rules.top_level_dollars)


def label(level: int | None, rules: Rules = RULES) -> str:
    """The display name of a price level."""
    if level is None:
        return "unknown"
    return f"${level}+" if level >= rules.top_level_dollars else f"${level}-{level + rules.level_dollars}"


def unknown_category(category_id: int) -> str:
    """The display name of a category whose name has not arrived yet."""
    return f"Unknown category {category_id}"


def cell_of(state: ProductObservation) -> Cell:
    return Cell(state.category_id, price_level(state.price_cents), state.is_best_seller)


def contribution_of(state: ProductObservation) -> Contribution:
    priced, rated = state.price_cents > 0, state.stars_tenths > 0
    discounted = state.list_price_cents > state.price_cents > 0
    return Contribution(
        products=1,
        priced=int(priced),
        price_cents=state.price_cents,
        rated=int(rated),
        stars_tenths=state.stars_tenths,
        reviews=state.reviews,
        bought_floor=state.bought_in_last_month,
        discounted=int(discounted),
        list_cents=state.list_price_cents if discounted else 0,
        discount_cents=state.list_price_cents - state.price_cents if discounted else 0,
    )


def added(a: Cube, b: Cube) -> Cube:
    """The sum of two cubes. Cells whose sums are all 0 are dropped."""
    total = dict(a)
    for cell, contribution in b.items():
        total[cell] = total.get(cell, Contribution()) + contribution
    return {cell: contribution for cell, contribution in total.items() if contribution}


def negated(cube: Cube) -> Cube:
    return {cell: -contribution for cell, contribution in cube.items()}


def cube_of(states: Iterable[ProductObservation]) -> Cube:
    """The cube of product states; there is one state per product."""
    total: dict[Cell, Contribution] = {}
    for state in states:
        cell = cell_of(state)
        total[cell] = total.get(cell, Contribution()) + contribution_of(state)
    return total
