"""How fast the HTTP API takes posts: `python bench/api_posts.py`. Prints one line of JSON.

One API process, one broker of its own, both on this machine and removed at the end; loopback; clients in this process. Records of a
generated catalog, so that none is like the next. It checks that Kafka holds exactly what has been acknowledged. `api_cpu_...` is
the API's own CPU time, which a busy machine changes less than it does the rates; `load` is the machine's when it started.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
from kafka.errors import KafkaError

from catalog.events import Event
from catalog.observations import Rejection, product_observation
from ingest import topics, watch
from ingest.files import PRODUCT_COLUMNS
from ingest.generate import day_rows
from ingest.post import typed
from local.programs import PROGRAMS
from settings import CHECKOUT, settings

CONNECTIONS = 32  # that post single records
SINGLE_POSTS, SINGLE_SECONDS = 5_000, 10.0
BATCHES, BATCH_RECORDS, BATCH_SECONDS = 12, 10_000, 20.0
START_SECONDS = 90


def records(count: int) -> list[bytes]:
    """Valid products as the API's JSON."""
    now = time.time_ns() // 1_000_000
    rows = (row for row in day_rows(count + count // 100 + 100, seed=1, day=0) if len(row) == len(PRODUCT_COLUMNS))
    found = (typed(PRODUCT_COLUMNS, row, "2024-01-01T00:00:00Z") for row in rows)
    fit = (one for one in found if not isinstance(product_observation(Event("", 0, 0, now, None, one)), Rejection))
    return list(islice(fit, count))


@contextmanager
def servers() -> Iterator[subprocess.Popen[bytes]]:
    """Kafka and the API of the settings; the API's process."""
    kafka = next(program for program in PROGRAMS if program.name == "kafka")
    with (settings().home / "log").open("wb") as log:
        for preparation in kafka.before:
            if command := preparation():
                subprocess.run(command, check=True, stdout=log, stderr=log)
        broker = subprocess.Popen(kafka.command(), stdout=log, stderr=log)
        api = None
        try:
            until = time.monotonic() + START_SECONDS
            while True:
                try:
                    topics.create()
                    break
                except (KafkaError, OSError):
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.5)
            environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
            api = subprocess.Popen([sys.executable, "-m", "ingest.api"], env=environment, stdout=log, stderr=log)
            while not healthy():
                if time.monotonic() > until:
                    raise RuntimeError("the API has not started")
                time.sleep(0.2)
            yield api
        finally:
            for process in (api, broker):
                if process:
                    process.terminate()
                    process.wait(30)


def healthy() -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{settings().api_port}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


def stored() -> int:
    """Events in Kafka."""
    with topics.admin() as client:
        return sum(one["offset"] - one["start"] for one in watch.look(client))


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    fields = (Path("/proc") / str(process.pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def posts(path: str, kind: str, bodies: AsyncIterator[bytes]) -> AsyncIterator[float]:
    """Posts one body after the other over one connection; the seconds each took. RuntimeError where an answer is not 201."""
    reader, writer = await asyncio.open_connection("127.0.0.1", settings().api_port)
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


async def run(path: str, kind: str, bodies: list[bytes], connections: int, seconds: float) -> tuple[list[float], float]:
    """Posts all bodies, or what can be posted in that time; what each took, sorted, and the time of all."""
    until, left, took = time.monotonic() + seconds, iter(bodies), []

    async def given() -> AsyncIterator[bytes]:
        for body in left:
            if time.monotonic() > until:
                return
            yield body

    async def post() -> None:
        took.extend([one async for one in posts(path, kind, given())])

    started = time.perf_counter()
    await asyncio.gather(*(post() for _ in range(connections)))
    return sorted(took), time.perf_counter() - started


def main() -> None:
    load = os.getloadavg()[0]
    some = records(BATCHES * BATCH_RECORDS)
    batches = [b"\n".join(some[start : start + BATCH_RECORDS]) for start in range(0, len(some), BATCH_RECORDS)]
    with servers() as api:
        asyncio.run(run("/AmazonProduct", "application/json", some[:200], CONNECTIONS, SINGLE_SECONDS))
        before = cpu_seconds(api)
        single, single_seconds = asyncio.run(run("/AmazonProduct", "application/json", some[:SINGLE_POSTS], CONNECTIONS, SINGLE_SECONDS))
        between = cpu_seconds(api)
        batched, batch_seconds = asyncio.run(run("/AmazonProduct/batch", "application/x-ndjson", batches, 2, BATCH_SECONDS))
        after = cpu_seconds(api)
        acknowledged = 200 + len(single) + len(batched) * BATCH_RECORDS
        found = stored()
    if found != acknowledged:
        raise RuntimeError(f"{acknowledged} records were acknowledged, Kafka holds {found} events")
    figures = {
        "bench": "api_posts",
        "single_posts_per_second": round(len(single) / single_seconds),
        "single_ms_median": round(single[len(single) // 2] * 1000, 1),
        "single_ms_99": round(single[len(single) * 99 // 100] * 1000, 1),
        "api_cpu_ms_per_single_post": round((between - before) / len(single) * 1000, 3),
        "batched_records_per_second": round(len(batched) * BATCH_RECORDS / batch_seconds),
        "api_cpu_us_per_batched_record": round((after - between) / len(batched) / BATCH_RECORDS * 1_000_000, 1),
        "acknowledged": acknowledged,
        "connections": CONNECTIONS,
        "load": round(load, 1),
        "cpus": os.cpu_count(),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as home:
        import socket

        with socket.socket() as a, socket.socket() as b, socket.socket() as c:
            for one in (a, b, c):
                one.bind(("127.0.0.1", 0))
            ports = [one.getsockname()[1] for one in (a, b, c)]
        names = ("KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "API_PORT")
        os.environ |= {f"TIDEMARK_{name}": str(port) for name, port in zip(names, ports, strict=True)}
        os.environ["TIDEMARK_HOME"] = home
        settings.cache_clear()
        main()
