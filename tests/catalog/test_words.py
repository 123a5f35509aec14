"""The rules in words, and what the rules remember of the texts they have read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.wording import Wording

from tidemark.catalog.events import Event
from tidemark.catalog.observations import ProductObservation, Reason, Rejection, decoder, product_observation
from tidemark.catalog.rules import RULES, Rules
from tidemark.catalog.words import rule

NOW = 1_700_000_000_000
PRODUCT: dict[str, Any] = {
    **{"asin": "B0T0000001", "title": "", "stars": 4, "reviews": 1, "price": 1, "listPrice": 1, "category_id": 1},
    **{"isBestSeller": False, "boughtInLastMonth": 0, "date": "2023-01-01"},
}


def validated(rules: Rules = RULES, **fields: Any) -> ProductObservation | Rejection:
    return product_observation(Event("", 0, 0, NOW, None, json.dumps({**PRODUCT, **fields}).encode()), rules)


def test_every_reason_has_a_description(wording: Wording) -> None:
    words = [rule(reason) for reason in Reason]
    assert all(words)
    # Fields of one kind share their words, no others do.
    assert len(set(words)) == len(words) - 3
    wording.check("\n".join(f"{reason.value}: {message}" for reason, message in zip(Reason, words, strict=True)))


@pytest.mark.parametrize(
    ("reason", "field", "bound"),
    [(Reason.STARS, "max_stars", 3), (Reason.REVIEWS, "max_count", 7), (Reason.PRICE, "max_dollars", 11), (Reason.ID, "max_id", 13)],
)
def test_descriptions_contain_the_bounds_in_force(reason: Reason, field: str, bound: int) -> None:
    usual = str(getattr(RULES, field))
    assert usual in rule(reason)
    assert rule(reason, Rules(**{field: bound})) == rule(reason).replace(usual, str(bound))


@pytest.mark.parametrize(
    ("strict", "fields"),
    [
        (Rules(max_stars=3), {"stars": "4"}),
        (Rules(max_dollars=10), {"price": "11"}),
        (Rules(max_count=5), {"reviews": "6"}),
        (Rules(number="()([0-9]+)()()()"), {"listPrice": "1e2"}),
        (Rules(number="()([0-9]+)()()()"), {"category_id": "1.0"}),
        (Rules(true="yes"), {"isBestSeller": "TRUE"}),
        (Rules(date_formats=RULES.date_formats[:1]), {"date": "31/12/2022 00:00"}),
    ],
)
def test_cached_values_belong_to_the_rules_they_were_read_by(strict: Rules, fields: dict[str, str]) -> None:
    for _ in range(2):
        assert isinstance(validated(**fields), ProductObservation)
        seen = validated(strict, **fields)
        assert isinstance(seen, Rejection)
        assert seen.reason == next(iter(fields))


def test_a_cached_text_is_read_by_the_rule_of_its_field() -> None:
    seen = validated(stars="4.5", price="4.5", listPrice="4.50")
    assert isinstance(seen, ProductObservation)
    assert (seen.stars_tenths, seen.price_cents, seen.list_price_cents) == (45, 450, 450)
    assert isinstance(validated(reviews="4.5"), Rejection)


def test_a_custom_decoder_sees_pairs_that_a_duplicate_key_overrides() -> None:
    seen: list[list[tuple[str, Any]]] = []

    def object_from(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen.append(pairs)
        return dict(pairs)

    value = json.dumps(PRODUCT).replace('"price": 1', '"price": -1, "price": 2').encode()
    event = Event("", 0, 0, NOW, None, value)
    assert product_observation(event, reader=decoder(object_from)) == product_observation(event)
    assert [(name, text) for name, text in seen[0] if name == "price"] == [("price", "-1"), ("price", "2")]
