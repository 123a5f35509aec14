"""How a micro-batch's time grows with what is stored already: `python -m bench.growth`. Prints one line of JSON.

Ours is the time of a micro-batch beside many products, theirs that of the same micro-batch in the same stream beside a tenth of them: new
products, known products, and all categories posted again under the names that they have.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator

from support.places import Place
from support.streams import Stream, stream

from bench.micro_batches import day, served
from bench.sides import Measured, place, print_line, report
from tidemark.ingest.generate import categories
from tidemark.ingest.records import Message

WARMING = 5
TIMES = 10  # as many products in the end
PER_FILE = 100_000  # products that are made at once
SEED = 5_000  # beyond that of any filling


def posted_again() -> list[Message]:
    """All categories, under the names that they have from the first time on."""
    return [
        Message(number.encode(), json.dumps({"id": number, "category_name": name}).encode(), [("tide-source", b"api")])
        for number, name in categories()
    ]


class Growing:
    """A stream, and the products that it has served."""

    def __init__(self, here: Place, running: Stream, events: int) -> None:
        self.here, self.running, self.events = here, running, events
        self._seeds = iter(range(SEED, 10 * SEED))

    def fill(self, products: int, first_seed: int) -> None:
        for number in range(-(-products // PER_FILE)):
            some = min(PER_FILE, products - number * PER_FILE)
            served(self.here, self.running, day(some, first_seed + number, 0))
            print_line(f"{number * PER_FILE + some:,} of {products:,} products added")

    def rounds(self, count: int) -> dict[str, list[Measured]]:
        found: dict[str, list[Measured]] = {"new products": [], "known products": [], "category names": []}
        for _ in range(count):
            seed = next(self._seeds)
            found["new products"].append(self._batch(day(self.events, seed, 0)))
            found["known products"].append(self._batch(day(self.events, seed, 1)))
            found["category names"].append(self._batch(posted_again(), self.here.settings.category_topic))
        return found

    def _batch(self, events: list[Message], topic: str | None = None) -> Measured:
        """A micro-batch as such: its rate is a micro-batch's, its CPU time is for all of it."""
        one = served(self.here, self.running, events, topic)
        return Measured(one.rate / len(events), one.cpu_us * len(events))


def compared(few: list[Measured], many: list[Measured]) -> Iterator[tuple[str, object]]:
    seconds = {name: [1 / one.rate for one in some] for name, some in (("ours", many), ("theirs", few))}
    medians = {name: statistics.median(some) for name, some in seconds.items()}
    yield from {name: round(median, 3) for name, median in medians.items()}.items()
    yield "ratio", round(medians["ours"] / medians["theirs"], 3)
    yield "rounds", len(many)
    yield "spread", [round(edge(seconds["ours"]) / medians["theirs"], 3) for edge in (min, max)]
    yield "our_cpu_us", round(statistics.median(one.cpu_us for one in many))
    yield "their_cpu_us", round(statistics.median(one.cpu_us for one in few))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.growth")
    parser.add_argument("--products", type=int, default=1_400_000, help="in the end; a tenth of them at first")
    parser.add_argument("--events", type=int, default=400, help="of a micro-batch")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    with place() as here, stream(TIDEMARK_SPEED_MEMORY="2g") as running:
        growing = Growing(here, running, given.events)
        growing.fill(given.products // TIMES, 0)
        growing.rounds(WARMING)
        few = growing.rounds(given.rounds)
        growing.fill(given.products - given.products // TIMES, 1_000)
        many = growing.rounds(given.rounds)
        if (found := here.database.product.count_documents({})) < given.products * 0.99:
            raise RuntimeError(f"{found} products are there")
    report("growth", "seconds", {name: dict(compared(few[name], many[name])) for name in few}, products=given.products, events=given.events)


if __name__ == "__main__":
    main()
