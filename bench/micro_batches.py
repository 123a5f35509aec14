"""What the benchmarks of the stream share: a day's events, and how long the stream takes to serve some."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from support.csvs import csv_bytes
from support.places import Place
from support.streams import Stream

from bench.sides import Measured, measured, session_of
from tidemark.ingest.files import PRODUCT_COLUMNS, FileKind
from tidemark.ingest.generate import day_rows
from tidemark.ingest.produce import produce
from tidemark.ingest.records import Message, Origin, messages
from tidemark.serving import ledger

POLL_SECONDS = 0.02


def day(products: int, seed: int, number: int) -> list[Message]:
    """A day's events of a generated catalog, one a product."""
    rows = {row[0]: row for row in day_rows(products, seed, number) if len(row) == len(PRODUCT_COLUMNS)}
    moment = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)
    origin = Origin(f"{seed}-{number}", FileKind.PRODUCT, PRODUCT_COLUMNS, moment, moment)
    return list(messages(csv_bytes(list(rows.values())), 0, origin))[1:]


def served(here: Place, running: Stream, events: Sequence[Message], topic: str | None = None) -> Measured:
    """Measured from the stream's waking until the ledger has reached them. `topic` is that of products unless given."""
    running.signal(signal.SIGSTOP)
    produce(here.producer(), topic or here.settings.product_topic, events, 60)
    ends = here.ends()

    def wake() -> None:
        running.signal(signal.SIGCONT)
        while not ledger.read(here.database).offsets.reaches(ends):
            if running.process.poll() is not None:
                raise RuntimeError(f"the stream has ended:\n{running.text()[-5_000:]}")
            time.sleep(POLL_SECONDS)

    return measured(len(events), wake, lambda: [*session_of(running.process.pid), *server(here)])


def server(here: Place) -> list[int]:
    """MongoDB's process, which works for both sides."""
    return [here.database.command("serverStatus")["pid"]]
