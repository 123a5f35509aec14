"""A place of a test's own on the shared servers: a database, two topics, and what tests do there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from confluent_kafka import Consumer, Producer, TopicPartition
from pymongo.database import Database
from support.environment import setting
from support.recompute import Recomputed, differences, recompute, reports

from tidemark.catalog.events import Event
from tidemark.catalog.marks import TideMark
from tidemark.catalog.posts import parse
from tidemark.ingest import topics, watch
from tidemark.ingest.produce import RECOMMENDED
from tidemark.serving import offsets, schema
from tidemark.serving.database import Document, connect, database_of
from tidemark.serving.snapshot import snapshot
from tidemark.settings import Settings
from tidemark.settings.kafka_clients import librdkafka_options

_numbers = count(1)


@dataclass
class Place:
    database: Database[Document]
    settings: Settings

    def producer(self) -> Producer:
        return Producer({**librdkafka_options(self.settings), **RECOMMENDED})

    def send(self, events: Iterable[Event]) -> None:
        """Sends events as they are, but for their coordinates, which are Kafka's to give."""
        producer = self.producer()
        for event in events:
            topic = self.settings.category_topic if event.topic == "ingest-category" else self.settings.product_topic
            producer.produce(topic, event.value, event.key, headers=list(event.headers))
            producer.poll(0)
        assert producer.flush(60) == 0

    def log(self, below: TideMark | None = None) -> list[Event]:
        """All events of both topics, or those below a mark, with the coordinates and timestamps Kafka has given them."""
        consumer = Consumer({**librdkafka_options(self.settings), "group.id": "none", "enable.auto.commit": False})
        try:
            ends = {key: end for key, end in self.ends().items() if end}
            consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in ends])
            found: list[Event] = []
            left = {key: end for key, end in ends.items() if end}
            while left:
                # No more than there are: it waits for as many as it is asked for.
                for message in consumer.consume(min(10_000, max(1, sum(ends.values()) - len(found))), 1.0):
                    assert message.error() is None, message.error()
                    headers = tuple((name, value) for name, value in message.headers() or ())
                    event = Event(
                        message.topic(),
                        message.partition(),
                        message.offset(),
                        message.timestamp()[1],
                        message.key(),
                        message.value(),
                        headers,
                    )
                    found.append(event)
                    key = next(one for one in ends if one == (event.topic, event.partition))
                    if event.offset + 1 >= ends[key]:
                        left.pop(key, None)
        finally:
            consumer.close()
        return found if below is None else [event for event in found if below.covers(event)]

    def ends(self) -> TideMark:
        with topics.admin(self.settings) as client:
            return offsets.from_documents(watch.fetch_end_offsets(client, self.settings.topics))

    def truth(self, below: TideMark | None = None) -> Recomputed:
        withdrawn = self.database.ingestion.distinct("_id", {"withdrawn": {"$ne": None}})
        return recompute(
            self.log(below),
            self.settings.category_topic,
            withdrawn=withdrawn,
            withdrawn_posts=[parse(one["_id"]) for one in self.database.withdrawn_posts.find()],
            keyed=self.settings.other_producers,
        )

    def wrong(self) -> list[str]:
        """What is wrong with the served reports, against a recomputation from the events below the ledger's offsets, at one snapshot."""
        with snapshot(self.database) as now:
            ledger = now.one("state", {"$match": {"_id": "ledger"}}) or {}
            served = {view: now.rows(view) for view in ("report_cube", "report_price_level", "report_category", "report_summary")}
        expected = reports(self.truth(offsets.from_documents(ledger["offsets"])))
        return [line for view, rows in served.items() for line in differences(view, expected[view], rows)]

    def wrong_documents(self) -> list[str]:
        """What is wrong with products, categories and quarantine when the stream has served all there is."""
        truth = self.truth()
        wrong = wrong_products(self.database, truth)
        categories = {one["_id"]: one["category_name"] for one in self.database.category.find()}
        wrong += [] if categories == truth.categories else [f"categories {categories} instead of {truth.categories}"]
        # What changed rules accept stays to be seen, and is marked so.
        rejections = {(one["_id"], one["reason"]) for one in self.database.quarantine.find({"status": {"$ne": "healed"}})}
        # A source that comes twice is kept once, as it came first.
        wrong += [f"quarantine: {one} should not be there" for one in sorted(rejections - truth.rejections)]
        wrong += [
            f"quarantine: {one} is missing"
            for one in sorted({source for source, _ in truth.rejections - rejections} - dict(rejections).keys())
        ]
        return wrong

    def wrong_products(self, below: TideMark) -> list[str]:
        """What is wrong with products that should be those of a mark."""
        return wrong_products(self.database, self.truth(below))


def wrong_products(database: Database[Document], truth: Recomputed) -> list[str]:
    wrong, left = [], dict(truth.products)
    for found in database.product.find():
        asin = found["_id"]
        if (expected := left.pop(asin, None)) is None:
            wrong.append(f"product {asin}: should not be there")
            continue
        wrong += [
            f"product {asin}: {name} is {found.get(name)!r} instead of {value!r}"
            for name, value in expected.items()
            if found.get(name) != value
        ]
    return wrong + [f"product {asin}: missing" for asin in left]


@contextmanager
def a_place() -> Iterator[Place]:
    """On the servers of the settings."""
    unique = f"{os.getpid()}-{next(_numbers)}"
    names = {"database": f"test_{unique}", "product_topic": f"product-{unique}", "category_topic": f"category-{unique}"}
    with setting(**names) as of, connect(of.mongodb) as client:
        database = database_of(client, of.database)
        schema.prepare(database)
        topics.create(of)
        yield Place(database, of)
        client.drop_database(database.name)
        with topics.admin(of) as admin:
            admin.delete_topics(list(of.topics))
        shutil.rmtree(of.lake_url, ignore_errors=True)
