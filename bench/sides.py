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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.places import Place, a_place
from support.servers import running_servers

from settings import settings

Side = Callable[[int], float]  # of a round's number: how fast it was


@contextmanager
def place() -> Iterator[Place]:
    """Kafka and MongoDB, topics and a prepared database, whatever the environment's settings are."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it logs every attempt to reach a server that is starting
    for name in [name for name in os.environ if name.startswith("TIDEMARK_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as home:
        os.environ["TIDEMARK_HOME"] = home
        settings.cache_clear()
        with running_servers(Path(home)) as servers, a_place(servers) as found:
            yield found


def rate(count: int, act: Callable[[], object]) -> float:
    """How many a second."""
    gc.freeze()  # what has been made ready is not looked through again while something is measured
    started = time.perf_counter()
    act()
    return count / (time.perf_counter() - started)


def in_turns(rounds: int, ours: Side, theirs: Side) -> dict[str, Any]:
    """Measures both sides in each round. The ratio is the median of the rounds' ratios, the spread their lowest and highest."""
    measured = [(ours(number), theirs(number)) for number in range(rounds)]
    ratios = sorted(our / their for our, their in measured)
    return {
        "ours": round(statistics.median(our for our, _ in measured)),
        "theirs": round(statistics.median(their for _, their in measured)),
        "ratio": round(statistics.median(ratios), 3),
        "rounds": rounds,
        "spread": [round(ratios[0], 3), round(ratios[-1], 3)],
    }


def tell(bench: str, unit: str, comparisons: dict[str, dict[str, Any]], **more: Any) -> None:
    """Prints the one line: what was compared by name, and what else there is to say."""
    line = {"bench": bench, "unit": unit, "comparisons": comparisons, **more, "cpus": os.cpu_count()}
    sys.stdout.write(json.dumps(line) + "\n")
