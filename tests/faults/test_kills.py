"""The stream is killed, stalled and woken: the reports stay those of a recomputation."""

from __future__ import annotations

import signal
import time
from random import Random

import pytest
from support.load import updates
from support.places import Place
from support.streams import stream, uncommitted, wait_until_served

pytestmark = pytest.mark.servers

SMALL = {"TIDEMARK_MAX_EVENTS_PER_BATCH": "500", "TIDEMARK_TRIGGER_SECONDS": "0"}


@pytest.mark.parametrize(("point", "leaves_uncommitted"), [("products-written", True), ("in-transaction", True), ("committed", False)])
def test_killed_at_a_named_point(place: Place, point: str, leaves_uncommitted: bool) -> None:
    place.send(updates(Random(21), 2_000, keys=300))
    with stream(point, **SMALL) as doomed:
        assert doomed.wait(150) == -signal.SIGKILL, doomed.text()[-3000:]
    assert (uncommitted(place.database) > 0) == leaves_uncommitted
    assert place.wrong() == []
    with stream() as successor:
        wait_until_served(place, successor)
    assert uncommitted(place.database) == 0
    assert place.wrong() == []
    assert place.wrong_documents() == []


def _kills(place: Place, random: Random, kills: int) -> int:
    """Kills streams at random moments while events come; returns how many kills left uncommitted documents behind."""
    left = 0
    for _ in range(kills):
        place.send(updates(random, 3_000, keys=300))
        with stream(**SMALL) as doomed:
            time.sleep(random.uniform(14, 26))
            doomed.kill()
        left += uncommitted(place.database) > 0
        assert place.wrong() == []
    with stream() as successor:
        wait_until_served(place, successor)
    assert place.wrong() == []
    assert place.wrong_documents() == []
    return left


def test_killed_at_random_moments(place: Place) -> None:
    _kills(place, Random(22), kills=3)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_thirty_random_moments(place: Place) -> None:
    assert _kills(place, Random(23), kills=30) > 0, "no kill fell between the writes and the commit"


def test_a_stalled_stream_wakes_beside_its_successor(place: Place) -> None:
    random = Random(24)
    place.send(updates(random, 4_000, keys=300))
    with stream(**SMALL) as zombie:
        until = time.monotonic() + 120
        while uncommitted(place.database) == 0 and time.monotonic() < until:
            time.sleep(0.02)
        zombie.signal(signal.SIGSTOP)
        assert uncommitted(place.database) > 0, "it was stalled outside of a micro-batch"
        with stream() as successor:
            wait_until_served(place, successor)
            place.send(updates(random, 2_000, keys=300))
            zombie.signal(signal.SIGCONT)
            assert zombie.wait(90) == 1, zombie.text()[-3000:]
            assert "stopped:" in zombie.text()
            wait_until_served(place, successor)
    assert place.wrong() == []
    assert place.wrong_documents() == []
