"""What the benchmarks share: two sides measured in turns, servers of their own, and one line of JSON."""

from __future__ import annotations

import gc
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from support.environment import setting
from support.places import Place, a_place
from support.servers import running_servers


class Measured(NamedTuple):
    rate: float  # a second
    cpu_us: float  # of CPU time for each


Side = Callable[[int], Measured]  # of a round's number


@contextmanager
def place() -> Iterator[Place]:
    """Kafka and MongoDB, topics and a prepared database, whatever the environment's settings are."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it logs every attempt to reach a server that is starting
    for name in [name for name in os.environ if name.startswith("TIDEMARK_")]:
        del os.environ[name]
    with (
        tempfile.TemporaryDirectory(prefix="tidemark-bench-") as home,
        running_servers(Path(home)) as servers,
        setting(**servers.settings),
    ):
        servers.wait()
        with a_place() as found:
            yield found


def cpu_seconds(processes: Iterable[int]) -> float:
    """CPU time that these processes have had. A busy machine changes it less than it does the rates."""
    ticks = 0
    for process in processes:
        with suppress(FileNotFoundError, ProcessLookupError):
            ticks += sum(map(int, _stat(process)[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def session_of(leader: int) -> list[int]:
    """The processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(_stat(int(folder.name))[3]) == leader:
                found.append(int(folder.name))
    return found


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def measured(count: int, act: Callable[[], object], processes: Callable[[], Iterable[int]]) -> Measured:
    """Does it, and says how fast so many were done. `processes` are those whose CPU time it costs."""
    gc.freeze()  # what has been made ready is not looked through again while something is measured
    cpu, started = cpu_seconds(processes()), time.perf_counter()
    act()
    return Measured(count / (time.perf_counter() - started), (cpu_seconds(processes()) - cpu) / count * 1_000_000)


def in_turns(rounds: int, ours: Side, theirs: Side) -> dict[str, Any]:
    """Measures both sides in each round. The ratio is the median of the rounds' ratios, the spread their lowest and highest."""
    both = [(ours(number), theirs(number)) for number in range(rounds)]
    ratios = sorted(our.rate / their.rate for our, their in both)
    return {
        "ours": round(statistics.median(our.rate for our, _ in both)),
        "theirs": round(statistics.median(their.rate for _, their in both)),
        "ratio": round(statistics.median(ratios), 3),
        "rounds": rounds,
        "spread": [round(ratios[0], 3), round(ratios[-1], 3)],
        "our_cpu_us": round(statistics.median(our.cpu_us for our, _ in both), 1),
        "their_cpu_us": round(statistics.median(their.cpu_us for _, their in both), 1),
    }


def against_limit(limit: float, rounds: Sequence[float], whole: float | None = None) -> dict[str, Any]:
    """A comparison of seconds with a limit: `whole` is what all rounds come to, where that is not their median."""
    ours = statistics.median(rounds) if whole is None else whole
    return {
        "ours": round(ours, 4),
        "theirs": limit,
        "ratio": round(ours / limit, 3),
        "rounds": len(rounds),
        "spread": [round(edge(rounds) / limit, 3) for edge in (min, max)],
    }


def query_seconds(query: Callable[[], object], times: int) -> list[float]:
    """Seconds of each of so many questions, one after the other."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        query()
        found.append(time.perf_counter() - started)
    return found


def p95(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=20)[18]


def print_line(line: str) -> None:
    """Progress, beside the one line of JSON."""
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {line}\n")
    sys.stderr.flush()


def report(bench: str, unit: str, comparisons: dict[str, dict[str, Any]], **more: Any) -> None:
    """Prints the one line: what was compared by name, and what else there is to say."""
    line = {"bench": bench, "unit": unit, "comparisons": comparisons, **more, "cpus": os.cpu_count(), "load": round(os.getloadavg()[1], 1)}
    sys.stdout.write(json.dumps(line) + "\n")
