"""How fast one process brings a CSV file into Kafka: `python -m bench.csv_to_kafka`. Prints one line of JSON.

`ready` is the same client with the same settings that is handed the same messages ready made, keys, values and headers, and asks for no
acknowledgements but at the end. `post_per_row` posts one row after the other to an HTTP endpoint (peer_api.py). Ours is what a task of
the DAG does: it reads the planned chunks, checks their digests, makes events of the rows and counts every acknowledgement.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from support.servers import free_ports

from bench.sides import Measured, in_turns, measured, place, report
from tidemark.ingest.files import PRODUCT_COLUMNS, FileKind
from tidemark.ingest.generate import day_rows
from tidemark.ingest.plan import plan
from tidemark.ingest.produce import produce_chunk, read_chunk
from tidemark.ingest.records import Origin, messages
from tidemark.settings import CHECKOUT

OBSERVED_AT = datetime(2024, 1, 1, tzinfo=UTC)
POSTS = 1_500
START_SECONDS = 60


@contextmanager
def peer_api() -> Iterator[httpx.Client]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "bench.peer_api:app", "--port", str(port), "--log-level", "error"]
    process = subprocess.Popen(command, cwd=CHECKOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            until = time.monotonic() + START_SECONDS
            while True:
                try:
                    client.get("/")
                    break
                except httpx.TransportError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.2)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def written(rows: int, home: Path) -> Path:
    """A file of a generated catalog."""
    path = home / "products.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(PRODUCT_COLUMNS)
        writer.writerows(day_rows(rows, seed=1, day=0))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.csv_to_kafka")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with place() as here, peer_api() as http:
        topic, file = here.settings.product_topic, written(given.rows, here.settings.home)
        started = time.perf_counter()
        planned = plan(file, FileKind.PRODUCT, OBSERVED_AT, here.settings.chunk_bytes)
        ingestion = planned.ingestion
        planning = ingestion["rows"] / (time.perf_counter() - started)
        origin = Origin(ingestion["_id"], FileKind.PRODUCT, tuple(ingestion["columns"]), OBSERVED_AT, OBSERVED_AT)
        size = ingestion["bytes"]
        ready = [one for chunk in planned.chunks for one in messages(read_chunk(file, size, chunk), chunk.start, origin)]
        rows: list[dict[str, Any]] = []
        for row in day_rows(POSTS, seed=1, day=0):
            rows.append(dict(zip(PRODUCT_COLUMNS, row, strict=False)))

        def ours() -> None:
            producer = here.producer()
            for chunk in planned.chunks:
                produce_chunk(producer, topic, file, size, chunk, origin, 60)

        def ready_made() -> None:
            producer = here.producer()
            for number, (key, value, headers) in enumerate(ready):
                while True:
                    try:
                        producer.produce(topic, value, key, headers=headers)
                        break
                    except BufferError:
                        producer.poll(0.1)
                if number % 1_000 == 0:
                    producer.poll(0)
            if producer.flush(60):
                raise RuntimeError("Kafka has not acknowledged all")

        def post_per_row() -> None:
            for row in rows:
                http.post("/row", json=row).raise_for_status()

        def own_process() -> list[int]:
            return [os.getpid()]

        def our_side(_: int) -> Measured:
            return measured(len(ready), ours, own_process)

        ours()
        ready_made()
        comparisons = {
            "ready": in_turns(given.rounds, our_side, lambda _: measured(len(ready), ready_made, own_process)),
            "post_per_row": in_turns(3, our_side, lambda _: measured(len(rows), post_per_row, own_process)),
        }
        sent = (2 * given.rounds + 2 + 3) * len(ready) + 3 * len(rows)
        if (found := sum(end for key, end in here.ends().items() if key.topic == topic)) != sent:
            raise RuntimeError(f"{sent} events were sent, Kafka holds {found}")
    report("csv_to_kafka", "rows/s", comparisons, reach={"ready": 0.4}, rows=len(ready), planned_rows_per_second=round(planning))


if __name__ == "__main__":
    main()
