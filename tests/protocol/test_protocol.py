"""The protocol holds on random schedules, and none of its rules can be left out."""

from __future__ import annotations

from collections import Counter

import pytest
from support.protocol import Broken, Rule, simulate

SEEDS = 250
SEEDS_TO_FIND = 150


def test_the_protocol_holds() -> None:
    happened: Counter[str] = Counter()
    for seed in range(SEEDS):
        happened += simulate(seed)
    # The schedules reach everything that the protocol is about.
    for event in ("micro-batches", "kills", "stalls", "retried tasks", "fenced", "renames", "publications", "rebuilds"):
        assert happened[event] > SEEDS, happened


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name.lower())
def test_the_protocol_needs(rule: Rule) -> None:
    assert any(_breaks(seed, rule) for seed in range(SEEDS_TO_FIND)), f"nothing breaks without: {rule}"


def _breaks(seed: int, rule: Rule) -> bool:
    try:
        simulate(seed, broken=rule)
    except Broken:
        return True
    return False


@pytest.mark.soak(proof="protocol")
@pytest.mark.timeout(1800)
def test_the_protocol_holds_on_many_more_schedules() -> None:
    for seed in range(SEEDS, SEEDS + 5_000):
        simulate(seed)
