"""Is a new publication like the one that is served? Figures, how far they move, and when a person is asked."""

from __future__ import annotations

import pytest
from support.wording import Wording

from tidemark.catalog.cube import Cell, Contribution
from tidemark.rendering.verifications import render_decision
from tidemark.serving import plausibility, verifications
from tidemark.serving.database import Document
from tidemark.serving.verifications import Drifted
from tidemark.settings.sections import BatchSettings


def cell(products: int, priced: int, cents: int, rated: int) -> tuple[int, ...]:
    measures = dict.fromkeys(Contribution.__dataclass_fields__, 0)
    measures |= {"products": products, "priced": priced, "price_cents": cents, "rated": rated, "stars_tenths": rated * 40}
    return tuple(measures.values())


FORMER = {
    Cell(1, 5, False): cell(80, 80, 64_000, 60),
    Cell(1, None, True): cell(20, 0, 0, 20),
    Cell(2, 300, True): cell(100, 100, 3_600_000, 100),
    Cell(3, 5, False): cell(0, 0, 0, 0),
}
NO_SHIFT = {"products": 0.0, "average_price": 0.0, "categories": 0.0, "unpriced": 0.0, "unrated": 0.0}


def test_equal_cubes_have_no_shift() -> None:
    found = plausibility.compare(FORMER, FORMER)
    assert found["before"] == found["after"]
    assert found["before"] == {
        "products": 200,
        "categories": 2,  # a cell of nothing is none
        "average_price": pytest.approx(203.555, abs=0.001),
        "unpriced": 20,
        "average_stars": 4.0,
        "unrated": 20,
        "discounted": 0,
    }
    assert found["shifts"] == NO_SHIFT


def test_shifts_are_shares_of_the_former_value() -> None:
    after = {Cell(1, 5, False): cell(80, 80, 64_000, 60), Cell(1, None, True): cell(20, 0, 0, 15)}
    assert plausibility.compare(FORMER, after)["shifts"] == pytest.approx(
        {"products": 0.5, "average_price": 1 - 8 / (36_640 / 180), "categories": 0.5, "unpriced": 0.1, "unrated": 0.15}
    )
    more = {**FORMER, Cell(4, None, False): cell(200, 0, 0, 200)}
    assert plausibility.compare(FORMER, more)["shifts"] == pytest.approx(
        {"products": 1.0, "average_price": 0.0, "categories": 0.5, "unpriced": 0.45, "unrated": 0.05}
    )
    nothing = plausibility.compare(FORMER, {})
    assert nothing["shifts"] == {"products": 1.0, "average_price": 1.0, "categories": 1.0, "unpriced": 0.1, "unrated": 0.1}
    assert nothing["after"]["average_price"] is None


def test_nothing_is_implausible_compared_with_an_empty_cube() -> None:
    found = plausibility.compare({}, FORMER)
    assert set(found["shifts"].values()) == {None}
    strict = {f"implausible_{name}_shift": 0 for name in ("products", "price", "unpriced", "unrated", "categories")}
    assert plausibility.beyond(found, BatchSettings(**strict)) == []


def verification_of_half() -> Document:
    """A verification of half of the products."""
    after = {Cell(1, 5, False): cell(80, 80, 64_000, 60), Cell(1, None, True): cell(20, 0, 0, 15)}
    return {"_id": 7, "drift": 0, "counts": {}, "named": {}, "compared": plausibility.compare(FORMER, after)}


@pytest.mark.parametrize(("name", "limit"), [("products", 0.49), ("price", 0.9), ("unpriced", 0.05), ("unrated", 0.1), ("categories", 0.2)])
def test_each_threshold_applies_independently(name: str, limit: float, wording: Wording) -> None:
    verification, usual = verification_of_half(), BatchSettings()
    assert plausibility.beyond(verification["compared"], usual) == []
    assert not verifications.requires_approval(verification, "correct", usual)
    assert verifications.requires_approval(verification, "correct", usual, hold=True)
    strict = BatchSettings(**{f"implausible_{name}_shift": limit})
    (message,) = plausibility.beyond(verification["compared"], strict)
    wording.check(message)
    assert verifications.requires_approval(verification, "correct", strict)
    assert not verifications.requires_approval(verification, "correct", strict, hold=False)
    assert message in render_decision(verification, [message])
    with pytest.raises(Drifted):
        verifications.requires_approval({**verification, "drift": 1}, "fail", strict)
    assert not verifications.requires_approval(verification, "correct", BatchSettings(**{f"implausible_{name}_shift": 2}))


def test_very_many_cells_that_the_stream_has_not_served(wording: Wording) -> None:
    cut = {Cell(1, 5, False): cell(1, 1, 900, 1), Cell(2, 5, False): cell(0, 0, 0, 0)}
    after = {Cell(number, 5, False): cell(1, 1, 900, 1) for number in range(1, 8)} | {Cell(9, 5, False): cell(0, 0, 0, 0)}
    verification = {"_id": 7, "drift": 5, "counts": {}, "named": {}, "compared": plausibility.compare(cut, after, cut)}
    assert verification["compared"]["new_cells"] == 5
    assert not verifications.requires_approval(verification, "correct", BatchSettings(implausible_new_cells=5))
    strict = BatchSettings(implausible_new_cells=4)
    assert verifications.requires_approval(verification, "correct", strict)
    assert not verifications.requires_approval(verification, "correct", strict, hold=False)
    (said,) = plausibility.beyond(verification["compared"], strict)
    wording.check(said)


def test_the_comparison_shown_for_approval(wording: Wording) -> None:
    exceeded = plausibility.beyond(verification_of_half()["compared"], BatchSettings(implausible_products_shift=0.49))
    wording.check(render_decision(verification_of_half(), exceeded))
