"""Kafka and MongoDB are killed while the stream works: it ends or goes on, and whoever goes on comes to the right reports."""

from __future__ import annotations

import threading
from random import Random

import pytest
from pyspark.sql import SparkSession
from support.broker import wait_for
from support.load import updates
from support.places import Place
from support.servers import Servers

from tidemark.serving import ledger
from tidemark.spark.speed import follow

pytestmark = pytest.mark.servers


def test_reports_stay_exact_while_servers_are_killed(fallible: Servers, fallible_place: Place, spark: SparkSession) -> None:
    place = fallible_place
    random, stop_requested = Random(61), threading.Event()

    def supervised() -> None:
        while not stop_requested.is_set():
            try:
                follow(place.database, place.settings, stop_requested)
            except Exception:  # whatever it is, a supervisor starts the stream again
                stop_requested.wait(1)

    running = threading.Thread(target=supervised, daemon=True)
    running.start()
    try:
        for server in (fallible.mongodb, fallible.kafka):
            place.send(updates(random, 500, keys=100))
            before = ledger.read(place.database).offsets
            wait_for(lambda before=before: ledger.read(place.database).offsets != before, 90)
            place.send(updates(random, 500, keys=100))
            server.kill()
            server.start()
            fallible.wait()
            assert place.wrong() == []
        last = place.ends()
        wait_for(lambda: ledger.read(place.database).offsets.reaches(last), 120)
    finally:
        stop_requested.set()
        running.join(90)
    assert not running.is_alive()
    assert place.wrong() == []
    assert place.wrong_documents() == []
