"""The stream on real servers: whatever comes, the served reports are those of a recomputation, at every moment."""

from __future__ import annotations

import time
from random import Random

import pytest
from support.events import any_log
from support.load import updates
from support.places import Place
from support.streams import served, stream, wait_until_served

from tidemark.catalog.marks import TideMark

pytestmark = pytest.mark.servers


def test_events_of_every_kind_give_exact_reports(place: Place) -> None:
    with stream() as running:
        for seed in (11, 12):
            place.send(any_log(Random(seed), 3_000))
            wait_until_served(place, running)
            assert place.wrong() == []
            assert place.wrong_documents() == []


def test_every_snapshot_under_load_is_exact(place: Place) -> None:
    random = Random(13)
    with stream(TIDEMARK_MAX_EVENTS_PER_BATCH="2000") as running:
        marks: set[TideMark] = set()
        until = time.monotonic() + 240
        while len(marks) < 5:
            assert time.monotonic() < until, f"the stream hardly moves: {running.text()[-3000:]}"
            place.send(updates(random, 1_000, keys=400))
            for _ in range(3):
                assert place.wrong() == []
                marks.add(served(place.database))
        wait_until_served(place, running)
        assert place.wrong() == []
        assert place.wrong_documents() == []
