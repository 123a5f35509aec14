"""How fast the HTTP API takes posts: `python -m bench.api_posts`. Prints one line of JSON.

One API process on a broker of its own; loopback; clients in this process. Records of a generated catalog, so that none is like the
next. It checks that Kafka holds exactly what has been acknowledged. What it should reach stands where other benchmarks have their
peers. `api_cpu_...` is the API's own CPU time.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import httpx
from support.servers import free_ports

from bench.sides import cpu_seconds, place, report
from tidemark.catalog.events import Event
from tidemark.catalog.observations import Rejection, product_observation
from tidemark.ingest.files import PRODUCT_COLUMNS
from tidemark.ingest.generate import day_rows
from tidemark.ingest.post import typed

CONNECTIONS = 32  # that post single records
SINGLE_POSTS, SINGLE_SECONDS = 5_000, 10.0
BATCHES, BATCH_RECORDS, BATCH_SECONDS = 12, 10_000, 20.0
START_SECONDS = 90
REACH = {"single": 500, "batched": 20_000}  # records a second


def records(count: int) -> list[bytes]:
    """Valid products as the API's JSON."""
    now = time.time_ns() // 1_000_000
    rows = (row for row in day_rows(count + count // 100 + 100, seed=1, day=0) if len(row) == len(PRODUCT_COLUMNS))
    found = (typed(PRODUCT_COLUMNS, row, "2024-01-01T00:00:00Z") for row in rows)
    fit = (one for one in found if not isinstance(product_observation(Event("", 0, 0, now, None, one)), Rejection))
    return list(islice(fit, count))


@contextmanager
def api(port: int, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The API at that port: its process."""
    environment = {**os.environ, "TIDEMARK_API_PORT": str(port)}
    with (home / "api.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "tidemark.ingest.api"], env=environment, stdout=log, stderr=log)
    try:
        until = time.monotonic() + START_SECONDS
        while not healthy(port):
            if time.monotonic() > until:
                raise RuntimeError("the API has not started")
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


async def posts(port: int, path: str, kind: str, bodies: AsyncIterator[bytes]) -> AsyncIterator[float]:
    """Posts one body after the other over one connection; the seconds each took. RuntimeError where an answer is not 201."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async for body in bodies:
        started = time.perf_counter()
        writer.write(f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        answer = await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 201"):
            raise RuntimeError(f"{head!r} {answer[:500]!r}")
        yield time.perf_counter() - started
    writer.close()


async def run(port: int, path: str, kind: str, bodies: list[bytes], connections: int, seconds: float) -> tuple[list[float], float]:
    """Posts all bodies, or what can be posted in that time; what each took, sorted, and the time of all."""
    until, left, took = time.monotonic() + seconds, iter(bodies), []

    async def given() -> AsyncIterator[bytes]:
        for body in left:
            if time.monotonic() > until:
                return
            yield body

    async def post() -> None:
        took.extend([one async for one in posts(port, path, kind, given())])

    started = time.perf_counter()
    await asyncio.gather(*(post() for _ in range(connections)))
    return sorted(took), time.perf_counter() - started


def main() -> None:
    some = records(BATCHES * BATCH_RECORDS)
    batches = [b"\n".join(some[start : start + BATCH_RECORDS]) for start in range(0, len(some), BATCH_RECORDS)]
    (port,) = free_ports(1)
    post_single = partial(run, port, "/AmazonProduct", "application/json")
    with place() as here, api(port, here.settings.home) as process:
        asyncio.run(post_single(some[:200], CONNECTIONS, SINGLE_SECONDS))
        before = cpu_seconds([process.pid])
        single, single_seconds = asyncio.run(post_single(some[:SINGLE_POSTS], CONNECTIONS, SINGLE_SECONDS))
        between = cpu_seconds([process.pid])
        batched, batch_seconds = asyncio.run(run(port, "/AmazonProduct/batch", "application/x-ndjson", batches, 2, BATCH_SECONDS))
        after = cpu_seconds([process.pid])
        acknowledged = 200 + len(single) + len(batched) * BATCH_RECORDS
        found = sum(end for _, end in here.ends().items())
    if found != acknowledged:
        raise RuntimeError(f"{acknowledged} records were acknowledged, Kafka holds {found} events")
    rates = {"single": len(single) / single_seconds, "batched": len(batched) * BATCH_RECORDS / batch_seconds}
    comparisons = {
        name: {
            "ours": round(rate),
            "theirs": REACH[name],
            "ratio": round(rate / REACH[name], 3),
            "rounds": 1,
            "spread": [round(rate / REACH[name], 3)] * 2,
        }
        for name, rate in rates.items()
    }
    figures = {
        "single_ms_median": round(single[len(single) // 2] * 1000, 1),
        "single_ms_99": round(single[len(single) * 99 // 100] * 1000, 1),
        "api_cpu_ms_per_single_post": round((between - before) / len(single) * 1000, 3),
        "api_cpu_us_per_batched_record": round((after - between) / len(batched) / BATCH_RECORDS * 1_000_000, 1),
        "acknowledged": acknowledged,
        "connections": CONNECTIONS,
    }
    report("api_posts", "records/s", comparisons, **figures)


if __name__ == "__main__":
    main()
