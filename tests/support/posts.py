"""Posts under load, what each was answered, and what the answers promise of the log."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

import httpx

from tidemark.catalog.events import Event
from tidemark.ingest.api.document import PRODUCT

_loads = count()

SINGLE, BATCH = "/AmazonProduct", "/AmazonProduct/batch"


class Post(NamedTuple):
    """Records that were posted together, and their answer; status 0 where none came."""

    path: str
    records: list[bytes]
    status: int
    answer: dict[str, Any]
    headers: Mapping[str, str]
    seconds: float
    ended: float  # by the clock of time.monotonic()


class Load:
    """Clients that post records, no two alike, until it is stopped; none posts one again."""

    def __init__(self, url: str, *, single_clients: int = 6, batch_clients: int = 2, batch_records: int = 20) -> None:
        self.posts: list[Post] = []
        self._url, self._batch_records, self._name = url, batch_records, f"load {next(_loads)}"
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(number, number >= single_clients))
            for number in range(single_clients + batch_clients)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def count(self, status: int, path: str, since: int = 0) -> int:
        return sum(post.status == status and post.path == path for post in self.posts[since:])

    def wait_for(self, status: int, posts: int, seconds: float = 60) -> None:
        """Until so many more of each kind have been answered so. Fails where that takes too long."""
        since, until = len(self.posts), time.monotonic() + seconds
        while min(self.count(status, path, since) for path in (SINGLE, BATCH)) < posts:
            if time.monotonic() > until:
                raise AssertionError(
                    f"no {posts} answers {status} in {seconds} s: {Counter((one.path, one.status) for one in self.posts[since:])}"
                )
            time.sleep(0.05)

    def _client(self, number: int, in_batches: bool) -> None:
        path, records_each = (BATCH, self._batch_records) if in_batches else (SINGLE, 1)
        with httpx.Client(base_url=self._url, timeout=60) as http:
            turn = 0
            while not self._stop.is_set():
                records = [
                    json.dumps(
                        {
                            **PRODUCT,
                            "asin": f"B0{number:02d}{turn % 40:03d}{place % 7:03d}",
                            "title": f"{self._name} {number} {turn} {place}",
                        }
                    ).encode()
                    for place in range(records_each)
                ]
                post = send(http, path, records)
                self.posts.append(post)
                turn += 1
                self._stop.wait(0.03 if post.status == 201 else 0.1)


def send(http: httpx.Client, path: str, records: list[bytes]) -> Post:
    started = time.monotonic()
    try:
        answer = http.post(
            path, content=b"\n".join(records), headers={"Content-Type": "application/x-ndjson" if path == BATCH else "application/json"}
        )
    except httpx.TransportError:
        ended = time.monotonic()
        return Post(path, records, 0, {}, {}, ended - started, ended)
    ended = time.monotonic()
    return Post(path, records, answer.status_code, answer.json(), answer.headers, ended - started, ended)


@contextmanager
def load(url: str, **clients: int) -> Iterator[Load]:
    running = Load(url, **clients)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def broken_promises(posts: Sequence[Post], log: Sequence[Event]) -> list[str]:
    """Where answers and log do not fit. What was answered 201 is in the log once, where the answer says; what was answered otherwise is
    there at most once, and named; and nothing else is in the log."""
    at = {(event.topic, event.partition, event.offset): event for event in log}
    times = Counter(event.value for event in log)
    wrong = [f"{value!r} was never posted" for value in times.keys() - {record for post in posts for record in post.records}]
    wrong += [f"{value!r} is there {count} times" for value, count in times.items() if count > 1]
    for post in posts:
        for record in _promised(post, wrong.append):
            if times[record] != 1:
                wrong.append(f"{record!r} was acknowledged and is there {times[record]} times")
        if post.status == 201 and post.path == SINGLE:
            event = at.get((post.answer["topic"], post.answer["partition"], post.answer["offset"]))
            if event is None or event.value != post.records[0] or event.key != json.loads(post.records[0])["asin"].encode():
                wrong.append(f"{post.answer} is not where its answer says")
    return wrong


def _promised(post: Post, complain: Callable[[str], None]) -> list[bytes]:
    """The records of a post that its answer says are in the log."""
    match post.status:
        case 201:
            if post.path == BATCH and post.answer["acknowledged"] != len(post.records):
                complain(f"201 for {post.answer['acknowledged']} of {len(post.records)} records")
            return post.records
        case 503:
            if "Retry-After" not in post.headers:
                complain("503 does not say when to come again")
            if post.path == SINGLE:
                if json.loads(post.records[0])["asin"] not in post.answer["detail"]:
                    complain(f"503 does not name its record: {post.answer}")
                return []
            if "not_acknowledged" not in post.answer:  # it found no place, and nothing was sent
                return []
            missing = set(post.answer["not_acknowledged"])
            if not missing or len(missing) + post.answer["acknowledged"] != len(post.records):
                complain(f"503 does not tell of each record: {post.answer}")
            return [record for place, record in enumerate(post.records) if place not in missing]
        case 0:
            return []
        case status:
            complain(f"{status}: {post.answer}")
            return []
