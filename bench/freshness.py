"""How old a product's news are when the reports show them: `python -m bench.freshness`. Prints one line of JSON.

Events come at an even rate, and each is traced: from the call of the producer to the moment at which a snapshot that holds it has
been read, of the ledger and of a report view together. Half of the events are updates of products that are known; the others are new
products until all are there, and then observations that come late. The limits stand where other benchmarks have their peers; a round
is a minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, islice
from random import Random

from confluent_kafka import KafkaError, Message
from pymongo.database import Database
from support.places import Place
from support.streams import stream, wait_until_served

from bench.sides import against_limit, place, report
from tidemark.catalog.marks import TideMark, TopicPartition
from tidemark.serving import offsets
from tidemark.serving.database import Document
from tidemark.serving.snapshot import snapshot

ASINS = 100_000
CATEGORIES, LEVELS = 100, 50  # with best sellers and others 10,000 cells
LIMITS = {"p50": 1.0, "p95": 1.5}  # seconds
POLL_SECONDS = 0.02
SEND_EVERY_SECONDS = 0.005


def products(random: Random) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of one event after the other."""
    first = datetime(2024, 1, 1, tzinfo=UTC)
    known = 0
    for number in count():
        ahead = number
        if number % 2 and known < ASINS:
            index, known = known, known + 1
        else:
            index = random.randrange(max(known, 1))
            ahead = -number if number % 2 else number
        asin = f"B0T{index:07d}"
        value = {
            "asin": asin,
            "title": f"Product {index}, seen {number}",
            "imgUrl": f"https://images.example/{index}.jpg",
            "productURL": f"https://shop.example/dp/{asin}",
            "stars": random.randrange(51) / 10,
            "reviews": random.randrange(1_000),
            "price": (random.randrange(LEVELS) * 500 + random.randrange(1, 500)) / 100,
            "listPrice": random.randrange(40_000) / 100,
            "category_id": random.randint(1, CATEGORIES),
            "isBestSeller": random.random() < 0.5,
            "boughtInLastMonth": 50,
            "date": (first + timedelta(milliseconds=ahead)).isoformat(),
        }
        yield asin.encode(), json.dumps(value).encode()


@dataclass
class Trace:
    """When each event of a topic was produced, by partition and offset, and which marks were seen served."""

    topic: str
    produced: dict[int, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    served: list[tuple[float, TideMark]] = field(default_factory=list)

    def stored(self, moment: float, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise RuntimeError(error.str())
        self.produced[message.partition() or 0][message.offset() or 0] = moment

    def poll(self, database: Database[Document], until: threading.Event) -> None:
        """Notes each mark and the moment at which its snapshot has been read, once more at the end."""
        last = False
        while not last:
            last = until.wait(POLL_SECONDS)
            with snapshot(database) as now:
                ledger = now.one("state", {"$match": {"_id": "ledger"}}) or {}
                mark = offsets.from_documents(ledger["offsets"])
                if not self.served or mark != self.served[-1][1]:
                    now.rows("report_price_level")
                    self.served.append((time.perf_counter(), mark))

    def ages(self, since: float) -> list[tuple[float, float]]:
        """Moment of production and seconds until it was served, of every event produced since then."""
        found = []
        for partition, by_offset in self.produced.items():
            ends = [mark[TopicPartition(self.topic, partition)] for _, mark in self.served]
            for offset, moment in by_offset.items():
                if moment >= since:
                    found.append((moment, self.served[bisect_right(ends, offset)][0] - moment))
        return sorted(found)


def send(here: Place, trace: Trace, some: Iterator[tuple[bytes, bytes]], rate: int, seconds: float) -> None:
    """Sends at that rate for so long."""
    producer, started, sent = here.producer(), time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < seconds:
        for key, value in islice(some, int(passed * rate) - sent):
            producer.produce(trace.topic, value, key, on_delivery=partial(trace.stored, time.perf_counter()))
            sent += 1
        producer.poll(0)
        time.sleep(SEND_EVERY_SECONDS)
    if producer.flush(30):
        raise RuntimeError("Kafka has not acknowledged all")


def percentiles(ages: list[float]) -> dict[str, float]:
    of = statistics.quantiles(ages, n=100)
    return {"p50": of[49], "p95": of[94], "p99": of[98], "most": max(ages)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.freshness")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--warming", type=int, default=60, help="seconds of the same before, until the JVM has compiled all")
    parser.add_argument("--rate", type=int, default=1_000, help="events a second")
    given = parser.parse_args()
    some, enough = products(Random(1)), threading.Event()
    with place() as here, stream(TIDEMARK_SPEED_MEMORY="2g") as running:
        trace = Trace(here.settings.product_topic)
        polling = threading.Thread(target=trace.poll, args=(here.database, enough))
        polling.start()
        try:
            send(here, trace, some, given.rate, 1)
            wait_until_served(here, running)  # the first of a JVM takes long
            send(here, trace, some, given.rate, given.warming)
            measured_from = time.perf_counter()
            send(here, trace, some, given.rate, given.seconds)
            wait_until_served(here, running)
        finally:
            enough.set()
            polling.join()
        if wrong := here.wrong():
            raise RuntimeError(f"the reports are wrong: {wrong[:5]}")
        cells = here.database.cube_cell.count_documents({})
        ages = trace.ages(measured_from)
    minutes: dict[int, list[float]] = defaultdict(list)
    for moment, age in ages:
        minutes[int((moment - ages[0][0]) // 60)].append(age)
    rounds = [percentiles(one) for one in minutes.values() if len(one) > given.rate]
    whole = percentiles([age for _, age in ages])
    comparisons = {name: against_limit(limit, [one[name] for one in rounds], whole[name]) for name, limit in LIMITS.items()}
    more = {"p99": round(whole["p99"], 3), "most": round(whole["most"], 3), "events": len(ages), "cells": cells}
    report("freshness", "seconds", comparisons, **more)


if __name__ == "__main__":
    main()
