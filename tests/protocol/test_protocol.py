"""The protocol holds on random schedules, and none of its rules can be left out."""

from __future__ import annotations

from collections import Counter

import pytest
from support.protocol import Broken, Rule
from support.schedules import World, simulate

SEEDS = 100
SEEDS_TO_FIND = 300
# A seed that finds what few schedules do, so that nobody has to search.
KNOWN = {Rule.LEADER_EPOCH: (World.DISASTERS, 2683), Rule.START_AS_READ: (World.DISASTERS, 2938)}
# Rules that too few schedules need: each has a test on real servers that fails without it.
SHOWN_ON_SERVERS = {
    Rule.FORGOTTEN_IS_ABSENT: "path/test_rebuilds.py::test_what_a_former_stream_writes_after_a_rebuild_is_no_drift_of_ours",
    Rule.UNCOMMITTED_IS_DRIFT: "path/test_seams.py::test_a_file_is_withdrawn_while_its_events_are_written_ahead",
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


@pytest.mark.parametrize("rule", [rule for rule in Rule if rule not in SHOWN_ON_SERVERS], ids=lambda rule: rule.name.lower())
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
