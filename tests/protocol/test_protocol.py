"""The protocol holds on random schedules, and none of its rules can be left out."""

from __future__ import annotations

from collections import Counter

import pytest
from support.protocol import Broken, Rule
from support.schedules import World, simulate

SEEDS = 150
SEEDS_TO_FIND = 300
# Rules whose loss shows where everything must come together: a seed of each that is known to find it, so that nobody has to search.
KNOWN = {
    Rule.FORGOTTEN_IS_ABSENT: (World.CALM, 1075),
    Rule.LAKE_EPOCH: (World.DISASTERS, 6308),
    Rule.LAKE_REACHES: (World.DISASTERS, 370),
    Rule.START_AS_READ: (World.DISASTERS, 2219),
    Rule.UNCOMMITTED_IS_DRIFT: (World.DISASTERS, 2835),
}


@pytest.mark.parametrize("world", World, ids=lambda world: world.name.lower())
def test_the_protocol_holds(world: World) -> None:
    happened: Counter[str] = Counter()
    for seed in range(SEEDS):
        happened += simulate(seed, world)
    # The schedules reach everything that the protocol is about.
    expected = ["micro-batches", "kills", "stalls", "retried tasks", "fenced", "renames", "publications", "rebuilds"]
    expected += ["disasters", "adoptions", "refused"] if world is World.DISASTERS else []
    assert all(happened[event] > SEEDS for event in expected), happened


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name.lower())
def test_the_protocol_needs(rule: Rule) -> None:
    worlds = [World.DISASTERS, World.RULES, World.CALM]
    tried = [KNOWN[rule]] if rule in KNOWN else [(world, seed) for world in worlds for seed in range(SEEDS_TO_FIND)]
    assert any(_breaks(seed, world, rule) for world, seed in tried), f"nothing breaks without: {rule}"


def _breaks(seed: int, world: World, rule: Rule) -> bool:
    try:
        simulate(seed, world, rule)
    except Broken:
        return True
    return False


@pytest.mark.soak(proof="protocol")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("world", World, ids=lambda world: world.name.lower())
def test_the_protocol_holds_on_many_more_schedules(world: World) -> None:
    for seed in range(SEEDS, SEEDS + 2_500):
        simulate(seed, world)
