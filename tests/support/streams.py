"""The stream as tests run it: a process of its own, whole or with a fault built in by a script of the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pymongo.database import Database
from support.places import Place

from tidemark.catalog.marks import TideMark
from tidemark.serving import ledger, offsets
from tidemark.serving.database import Document

FAULTS = Path(__file__).with_name("faults.py")


@dataclass
class Stream:
    """A running stream in a process group of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """kill -9 of Python and its JVM."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM to Python, as supervisor does; the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(90)
        finally:
            self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """To the whole process group."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    def wait(self, seconds: float) -> int:
        return self.process.wait(seconds)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def stream(fault: str | None = None, **environment: str) -> Iterator[Stream]:
    """Starts the stream with the settings of this place; with a fault of faults.py by name. Leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix="tidemark-stream-") as home:
        log = Path(home) / "log"
        command = [sys.executable, *((str(FAULTS), fault) if fault else ("-m", "tidemark.spark.speed"))]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env={**os.environ, "TIDEMARK_HOME": home, "TIDEMARK_SPEED_MEMORY": "1g", **environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        running = Stream(process, log)
        try:
            yield running
        finally:
            running.kill()


def figures(place: Place) -> dict[tuple[str, ...], float]:
    """What the stream's /metrics shows, by name and labels, those by their names' order."""
    text = httpx.get(place.settings.speed_metrics_url, trust_env=False, timeout=30).raise_for_status().text
    return {(one.name, *one.labels.values()): one.value for family in text_string_to_metric_families(text) for one in family.samples}


def served(database: Database[Document]) -> TideMark:
    return ledger.read(database).offsets


def wait_until_served(place: Place, running: Stream, seconds: float = 400) -> None:
    """Until the stream has served all that is in the log. Fails with its log where it ends or takes too long."""
    until = time.monotonic() + seconds
    ends = place.ends()
    while not served(place.database).reaches(ends):
        if running.process.poll() is not None:
            raise AssertionError(f"the stream has ended with status {running.process.returncode}:\n{running.text()[-5000:]}")
        if time.monotonic() > until:
            raise AssertionError(f"at {served(place.database)} after {seconds} s, not {ends}:\n{running.text()[-5000:]}")
        time.sleep(0.2)


def uncommitted(database: Database[Document]) -> int:
    """Products whose newest write no micro-batch has committed."""
    now = ledger.read(database)
    return sum(not now.holds(ledger.Tag(**one["_tide"]["tag"])) for one in database.product.find({}, {"_tide.tag": True}))


def mark_of(document: Document) -> TideMark:
    return offsets.from_documents(document["offsets"])
