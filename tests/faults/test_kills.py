"""The stream is killed, stalled and woken: the reports stay those of a recomputation."""

from __future__ import annotations

import signal
import time
from random import Random

import pytest
from support.broker import wait_for
from support.load import names, updates
from support.places import Place
from support.streams import Stream, stream, uncommitted, wait_until_served

from tidemark.serving import ledger

pytestmark = pytest.mark.servers

SMALL = {"TIDEMARK_MAX_EVENTS_PER_BATCH": "300", "TIDEMARK_TRIGGER_SECONDS": "0"}

# Where faults.py kills the stream, and whether products are left behind whose micro-batch, and whose names, have not been committed.
POINTS = {"products-written": True, "in-transaction": True, "committed": False}


def test_a_kill_at_each_named_point(place: Place) -> None:
    random = Random(21)
    for point, leaves_uncommitted in POINTS.items():
        place.send([*updates(random, 1_200, keys=300), *names(random, 60)])
        with stream(point, **SMALL) as doomed:
            assert doomed.wait(150) == -signal.SIGKILL, doomed.text()[-3000:]
        assert (uncommitted(place.database) > 0) == leaves_uncommitted, point
        assert bool(ledger.read(place.database).renaming) == leaves_uncommitted, point
        assert place.wrong() == [], point
    with stream() as successor:
        wait_until_served(place, successor)
    assert uncommitted(place.database) == 0
    assert place.wrong() == []
    assert place.wrong_documents() == []


def _kills(place: Place, random: Random, kills: int) -> int:
    """Kills streams at random moments while events come; returns how many kills left uncommitted documents behind."""
    with_uncommitted = 0
    for _ in range(kills):
        before = ledger.read(place.database).generation
        with stream(**SMALL) as doomed:
            _wait_for_generation(place, doomed, before + 1)
            until = time.monotonic() + random.uniform(0, 12)
            while time.monotonic() < until:
                place.send(updates(random, 250, keys=300))
                time.sleep(0.25)
            doomed.kill()
        with_uncommitted += uncommitted(place.database) > 0
        assert place.wrong() == []
    with stream() as successor:
        wait_until_served(place, successor)
    assert place.wrong() == []
    assert place.wrong_documents() == []
    return with_uncommitted


def _wait_for_generation(place: Place, running: Stream, generation: int) -> None:
    until = time.monotonic() + 300
    while ledger.read(place.database).generation < generation:
        assert running.process.poll() is None, running.text()[-3000:]
        assert time.monotonic() < until, running.text()[-3000:]
        time.sleep(0.1)


@pytest.mark.soak(proof="kills")
@pytest.mark.timeout(7200)
def test_kills_at_thirty_random_moments(place: Place) -> None:
    assert _kills(place, Random(23), kills=30) > 0, "no kill fell between the writes and the commit"


def test_a_stalled_stream_that_resumes_beside_its_successor_is_fenced(place: Place) -> None:
    random = Random(24)
    place.send(updates(random, 4_000, keys=300))
    with stream(**SMALL) as zombie:

        def is_stalled_in_a_micro_batch() -> bool:
            if uncommitted(place.database) == 0:
                return False
            zombie.signal(signal.SIGSTOP)
            if uncommitted(place.database) == 0:  # it had committed before it was stalled: the next one, then
                zombie.signal(signal.SIGCONT)
                return False
            return True

        wait_for(is_stalled_in_a_micro_batch, 120)
        with stream() as successor:
            wait_until_served(place, successor)
            place.send(updates(random, 2_000, keys=300))
            zombie.signal(signal.SIGCONT)
            assert zombie.wait(90) == 1, zombie.text()[-3000:]
            assert "stopped:" in zombie.text()
            wait_until_served(place, successor)
    assert place.wrong() == []
    assert place.wrong_documents() == []
