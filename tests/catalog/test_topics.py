"""What a topic must be like so that an acknowledged event is safe, by the number of its replicas."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from support.wording import Wording

from tidemark.catalog.topics import CONFIGURATION, FLUSHING, Durability, durability, problems, required_in_sync

SAFE = {**CONFIGURATION, "retention.ms": "-1", "max.message.bytes": "1048576", "min.insync.replicas": "2"}


def test_two_in_sync_copies_are_required_with_two_replicas() -> None:
    assert [required_in_sync(replicas) for replicas in (1, 2, 3, 5)] == [1, 2, 2, 2]


@pytest.mark.parametrize("replicas", [2, 3])
@pytest.mark.parametrize(
    "unsafe", [{"min.insync.replicas": "1"}, {"unclean.leader.election.enable": "true"}], ids=lambda one: next(iter(one))
)
def test_settings_that_can_lose_copies_are_reported_with_the_remedy(replicas: int, unsafe: Mapping[str, str], wording: Wording) -> None:
    assert problems("product", SAFE, replicas) == []
    (message,) = problems("product", {**SAFE, **unsafe}, replicas)
    wording.check(message)


def test_no_second_copy_is_required_with_one_replica() -> None:
    assert problems("product", {**SAFE, "min.insync.replicas": "1", "unclean.leader.election.enable": "true"}, 1) == []


@pytest.mark.parametrize(
    ("in_sync", "replicas", "flushing", "expected"),
    [
        ("1", 1, {}, Durability(1, flushed=False)),
        ("1", 1, FLUSHING, Durability(1, flushed=True)),
        ("1", 1, {"flush.messages": "1000"}, Durability(1, flushed=False)),
        ("2", 3, {"flush.messages": "9223372036854775807"}, Durability(2, flushed=False)),
        ("1", 3, {}, Durability(1, flushed=False)),
        ("2", 1, {}, Durability(1, flushed=False)),
    ],
)
def test_durability_of_an_acknowledged_event(in_sync: str, replicas: int, flushing: Mapping[str, str], expected: Durability) -> None:
    assert durability({"min.insync.replicas": in_sync, **flushing}, replicas) == expected
