"""Three MongoDB servers and three brokers fail over under load: posts through two replicas of the API, files, the stream and nights.

All of it goes on. In the end nothing that was acknowledged is missing, and the reports are those of a recomputation.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest
from kafka.errors import KafkaError
from pymongo.errors import PyMongoError
from support.apis import api
from support.broker import wait_for
from support.brokers import three_brokers
from support.catalogs import ingest, read
from support.csvs import read_whole
from support.environment import setting
from support.places import Place, a_place
from support.posts import broken_promises, load
from support.replica_sets import ReplicaSet, three_mongods
from support.servers import Server
from support.streams import served, stream

from tidemark.catalog.events import Event
from tidemark.ingest import topics
from tidemark.ingest.files import FileKind
from tidemark.ingest.generate import write
from tidemark.settings import Settings, settings

pytestmark = [pytest.mark.servers, pytest.mark.soak(proof="failover"), pytest.mark.timeout(3600)]

ROUNDS = 3  # of each kind of fail-over
FIRST_DAY = date(2024, 1, 1)
CLIENTS = {"single_clients": 1, "batch_clients": 1, "batch_records": 3}  # of each replica of the API

_Answer = TypeVar("_Answer")


@dataclass
class Work:
    """Stream, nights and files, each in a thread that does it again and again, whatever fails, until it is told to stop."""

    place: Place
    folder: Path
    stop: threading.Event = field(default_factory=threading.Event)  # for nights and files
    stop_stream: threading.Event = field(default_factory=threading.Event)
    commits: list[float] = field(default_factory=list)  # when the stream was seen to have committed
    ends: list[str] = field(default_factory=list)  # the last lines of streams that have ended by themselves
    nights: list[str] = field(default_factory=list)  # how each has ended
    files: dict[str, bytes] = field(default_factory=dict)  # by ingestion
    failures: list[str] = field(default_factory=list)  # of ingestions

    def follow(self) -> None:
        while not self.stop_stream.is_set():
            with stream() as running:
                while running.process.poll() is None and not self.stop_stream.wait(0.2):
                    pass
                if running.process.poll() is not None:
                    self.ends.append(running.text().strip().rpartition("\n")[2])
            self.stop_stream.wait(1)

    def watch(self) -> None:
        last = None
        while not self.stop_stream.wait(0.1):
            try:
                now = served(self.place.database)
            except PyMongoError:
                continue
            if now != last:
                last = now
                self.commits.append(time.monotonic())

    def run_nights(self) -> None:
        while not self.stop.wait(1):
            self.nights.append(night())

    def send_files(self) -> None:
        number = 0
        while not self.stop.wait(1):
            number += 1
            day = FIRST_DAY + timedelta(days=number)
            *_, path = write(1_000, 1, seed=1, out=self.folder / str(number), first_day=day)
            while True:
                try:
                    (identity,) = ingest(self.place, [read(path, FileKind.PRODUCT, day.isoformat())], chunk_bytes=60_000)
                except Exception as error:  # Airflow would try again
                    self.failures.append(f"{type(error).__name__}: {error}"[:200])
                    time.sleep(1)
                else:
                    self.files[identity] = path.read_bytes()
                    break

    @contextmanager
    def under_way(self) -> Iterator[None]:
        threads = [threading.Thread(target=one) for one in (self.follow, self.watch, self.run_nights, self.send_files)]
        for one in threads:
            one.start()
        try:
            yield
        finally:
            self.stop.set()
            self.stop_stream.set()
            for one in threads:
                one.join()


def night(*arguments: str) -> str:
    """Its exit status, and why it is not 0."""
    command = [sys.executable, "-m", "tidemark.spark.batch", "nightly", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
    return str(done.returncode) + (f": {done.stdout.strip().rpartition(chr(10))[2]}" if done.returncode else "")


def leader(of: Settings) -> int:
    """The number of the broker that leads a partition of the products."""
    with topics.admin(of) as client:
        (described,) = client.describe_topics([of.product_topic])
        return int(described["partitions"][0]["leader_id"])


def missing_rows(files: dict[str, bytes], log: list[Event]) -> list[str]:
    """Rows of ingested files that are not in the log as they are in the file."""
    wrong = []
    there: dict[tuple[str | None, int], list[Event]] = {}
    for event in log:
        there.setdefault((event.ingestion, event.position), []).append(event)
    for identity, content in files.items():
        columns, _, rows = read_whole(content)
        for row in rows:
            for event in there.get((identity, row.position), []) or [None]:
                if event is None:
                    wrong.append(f"{identity}: the row at {row.position} is missing")
                    continue
                value = event.value or b""
                if row.fields is None:
                    same = value == row.raw
                else:
                    found = json.loads(value)
                    same = found.pop("date", None) is not None and found == dict(zip(columns, row.fields, strict=True))
                if not same:
                    wrong.append(f"{identity}: the row at {row.position} is {event}")
    return wrong


def longest_gap(times: list[float], since: float, until: float) -> float:
    """The longest time without one of those."""
    inside = [since, *(one for one in sorted(times) if since < one < until), until]
    return max(after - before for before, after in pairwise(inside))


def again(what: Callable[[], _Answer], seconds: float = 120) -> _Answer:
    """What a client does that is answered by servers that fail over."""
    until = time.monotonic() + seconds
    while True:
        try:
            return what()
        except (PyMongoError, KafkaError):
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def fail_overs(mongods: ReplicaSet, brokers: list[Server], place: Place) -> dict[str, Callable[[], Callable[[], object]]]:
    """What fails, by name. Each returns what starts again what it has ended."""

    def step_down() -> Callable[[], object]:
        mongods.step_down()
        return lambda: None

    def kill_primary() -> Callable[[], object]:
        return partial(mongods.start, mongods.kill_primary())

    def kill_leader() -> Callable[[], object]:
        broker = brokers[leader(place.settings) - 1]
        broker.kill()
        return broker.start

    return {
        "the primary steps down": step_down,
        "kill -9 of the primary": kill_primary,
        "kill -9 of the leader of a partition": kill_leader,
    }


@pytest.fixture
def mongods(tmp_path: Path) -> Iterator[ReplicaSet]:
    """With MongoDB's usual time until an election, 10 s."""
    with three_mongods(tmp_path / "mongodb") as found:
        yield found


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[list[Server]]:
    (tmp_path / "kafka").mkdir()
    with three_brokers(tmp_path / "kafka", controllers=3) as found, setting(kafka_replication="3", batch_memory="1g"):
        yield found


def all_have_joined() -> bool:
    try:
        with topics.admin(settings()) as client:
            return len(client.describe_cluster()["brokers"]) == 3
    except KafkaError:
        return False


def test_servers_fail_over_under_load(mongods: ReplicaSet, brokers: list[Server], tmp_path: Path) -> None:
    wait_for(all_have_joined)
    report: list[str] = []
    with a_place() as place, api() as one, api() as another:
        work, fail = Work(place, tmp_path / "files"), fail_overs(mongods, brokers, place)
        kinds = [*fail] * ROUNDS
        Random(173).shuffle(kinds)
        with work.under_way():
            wait_for(lambda: len(work.commits) > 3, 120)
            with load(one.url, **CLIENTS) as first, load(another.url, **CLIENTS) as second:

                def goes_on(since: float) -> bool:
                    acknowledged = [[post.status == 201 and post.ended > since for post in each.posts] for each in (first, second)]
                    return min(map(sum, acknowledged)) > 10 and sum(commit > since for commit in work.commits) > 3

                wait_for(lambda: goes_on(0), 120)
                for kind in kinds:
                    since, ended = time.monotonic(), len(work.ends)
                    start_again = fail[kind]()
                    failed = time.monotonic()
                    wait_for(lambda failed=failed: goes_on(failed), 300)
                    until = time.monotonic()
                    start_again()
                    posts = longest_gap([post.ended for post in (*first.posts, *second.posts) if post.status == 201], since, until)
                    commits = longest_gap(work.commits, since, until)
                    report.append(
                        f"{kind}: {posts:.1f} s without 201, {commits:.1f} s without a commit, {len(work.ends) - ended} streams ended"
                    )
                    assert again(place.wrong) == [], report
            work.stop.set()
            wait_for(lambda: again(lambda: served(place.database).reaches(place.ends())), 300)
        for name, ends in (("stream", work.ends), ("night", work.nights), ("ingestion", work.failures)):
            report += [f"{name} ended: {end}" for end in ends]
        sys.stdout.write("\n".join(report) + "\n")
        log = place.log()
        assert broken_promises([*first.posts, *second.posts], [event for event in log if event.header("tide-source") == "api"]) == []
        assert len(work.files) > 3
        assert missing_rows(work.files, log) == []
        assert "0" in work.nights
        assert place.wrong() == []
        assert place.wrong_documents() == []
        assert night("--mode", "full", "--on-drift", "fail") == "0", "the raw history gives the same"
