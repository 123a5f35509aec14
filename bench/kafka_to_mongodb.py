"""How fast events in Kafka become products in MongoDB: `python -m bench.kafka_to_mongodb`. Prints one line of JSON.

Ours is the stream with its defaults, warm: it is stalled while a round's events are produced, and measured from its waking until the
ledger has reached them, so with judging, with the newest state of each product, with cells and reports. Theirs is plain pymongo that is
handed the very documents ready made, for a collection with the same validator and indexes: `new` products by insert_many, `known` ones by
a bulk of replacements by _id, both unordered.
"""

from __future__ import annotations

import argparse
import os

from pymongo import ReplaceOne
from support.streams import stream

from bench.micro_batches import day, served, server
from bench.sides import Measured, in_turns, measured, place, report
from tidemark.serving import schema
from tidemark.serving.database import Document, database_of

WARMING = 3  # rounds of the stream alone, until its JVM has compiled what it runs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.kafka_to_mongodb")
    parser.add_argument("--products", type=int, default=100_000, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with place() as here, stream(TIDEMARK_SPEED_MEMORY="2g") as running:
        peer = database_of(here.database.client, f"{here.database.name}_peer")
        schema.prepare(peer)

        def documents(seed: int, number: int) -> list[Document]:
            """What the stream has made of a day's events."""
            keys = [(one.key or b"").decode() for one in day(given.products, seed, number)]
            return list(here.database.product.find({"_id": {"$in": keys}}))

        def plain() -> list[int]:
            return [os.getpid(), *server(here)]

        def insert(seed: int) -> Measured:
            some = documents(seed, 0)
            return measured(len(some), lambda: peer.product.insert_many(some, ordered=False), plain)

        def replace(seed: int) -> Measured:
            some = documents(seed, 1)

            def write() -> None:
                peer.product.bulk_write([ReplaceOne({"_id": one["_id"]}, one, upsert=True) for one in some], ordered=False)

            return measured(len(some), write, plain)

        for seed in range(1_000, 1_000 + WARMING):
            for number in range(2):
                served(here, running, day(given.products, seed, number))
        comparisons = {
            "new": in_turns(given.rounds, lambda seed: served(here, running, day(given.products, seed, 0)), insert),
            "known": in_turns(given.rounds, lambda seed: served(here, running, day(given.products, seed, 1)), replace),
        }
        (summary,) = here.database.report_summary.find()
        if summary["products"] != (found := here.database.product.count_documents({})):
            raise RuntimeError(f"{found} products are there, the report has {summary['products']}")
    report("kafka_to_mongodb", "products/s", comparisons, reach={"new": 0.3, "known": 1.2}, products=given.products)


if __name__ == "__main__":
    main()
