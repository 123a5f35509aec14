"""The raw history in S3: of two drivers that write one commit, one is told that it exists."""

from __future__ import annotations

import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from support.environment import setting
from support.load import updates
from support.places import Place
from support.servers import START_SECONDS, free_ports
from support.wording import Wording

from tidemark.local import jars
from tidemark.settings import java
from tidemark.spark.log_stores import pyspark_jars

pytestmark = [pytest.mark.servers, pytest.mark.soak(proof="losses")]

SERVER = Path(__file__).parents[1] / "support" / "s3_server.py"
BUCKET = "raw"
LANDING = "/_delta_log/00000000000000000003.json"  # after those that create the table, claim it for a database and store the topics' ids

# Hadoop's client of the version that PySpark includes, with the parts of Amazon's that it needs instead of the bundle of 600 MB.
CLIENT = """<ivy-module version="2.0">
  <info organisation="tidemark" module="test-s3"/>
  <dependencies>
    <dependency org="org.apache.hadoop" name="hadoop-aws" rev="3.5.0" transitive="false"/>
    <dependency org="software.amazon.s3.analyticsaccelerator" name="analyticsaccelerator-s3" rev="1.3.1" transitive="false"/>
    <dependency org="software.amazon.awssdk" name="s3" rev="2.35.4" conf="default->default,runtime"/>
    <dependency org="software.amazon.awssdk" name="s3-transfer-manager" rev="2.35.4" conf="default->default,runtime"/>
    <dependency org="software.amazon.awssdk" name="sts" rev="2.35.4" conf="default->default,runtime"/>
  </dependencies>
</ivy-module>
"""

# A process of its own, as every job is. `delta` takes Delta's own log store for S3.
DRIVER = """
import logging, sys
from tidemark.catalog.marks import TideMark
from tidemark.serving.ledger import Ledger
from tidemark.settings import settings
from tidemark.spark import lake, log_stores
from tidemark.spark.land import land
from tidemark.spark.session import session
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
if sys.argv[1] == "delta":
    log_stores.options = dict
    lake._require_single_commits = lambda *_: None
spark = session("test-s3", settings(), memory="1g")
try:
    raw = lake.Lake(spark, settings().lake_url)
except lake.UnusableLake as error:
    sys.exit(f"unusable: {error}")
mark = land(spark, raw, Ledger(0, TideMark(), {}, "a database"), settings())
rows = [tuple(row) for row in raw.events(type(mark)(), mark).select("topic", "partition", "offset").collect()]
print("landed:", len(rows), len(set(rows)), sum(mark.values()))
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The jars of Spark's client for S3 that PySpark does not include."""
    folder = tmp_path_factory.mktemp("s3-client")
    (folder / "ivy.xml").write_text(CLIENT)
    ivy = next(pyspark_jars().glob("ivy-*.jar"))
    command = [java(), "-jar", str(ivy), "-ivy", str(folder / "ivy.xml"), "-types", "jar", "bundle"]
    subprocess.run([*command, "-retrieve", f"{folder}/{jars.PATTERN}"], cwd=folder, check=True, capture_output=True)
    return [jar for jar in folder.glob("*.jar") if not jars._of_pyspark(jar)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the server's environment."""
    folder = tmp_path_factory.mktemp("s3-server")
    venv.create(folder, with_pip=False)
    made = folder / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    lock = SERVER.with_name("s3-server.lock")
    subprocess.run([str(uv), "pip", "install", "--python", str(made), "--require-hashes", "-r", str(lock)], check=True, capture_output=True)
    return made


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.kill()
        process.wait()


class S3:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def configure(self, *, barrier: str = "", conditional_writes: bool = True) -> None:
        httpx.post(f"{self.url}/control", json={"barrier": barrier, "conditional_writes": conditional_writes}).raise_for_status()

    def writes(self, suffix: str) -> list[Any]:
        """Condition and status of each write of the keys that end so."""
        return [writes for key, *writes in httpx.get(f"{self.url}/control").json() if key.endswith(suffix)]


@pytest.fixture
def s3(python: Path, client: list[Path], place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A server with a bucket, where the settings have the raw history."""
    (port,) = free_ports(1)
    found = S3(port)
    options = {
        "spark.jars": ",".join(map(str, client)),
        "spark.hadoop.fs.s3a.endpoint": found.url,
        "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.access.key": "test",
        "spark.hadoop.fs.s3a.secret.key": "test",
    }
    (tmp_path / "spark-defaults.conf").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    with running([str(python), str(SERVER), str(port)]), setting(lake=f"s3a://{BUCKET}/{place.database.name}"):
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.put(f"{found.url}/{BUCKET}").raise_for_status()
                break
            except httpx.TransportError:
                assert time.monotonic() < until, "the server has not started"
                time.sleep(0.2)
        yield found


def drivers(store: str, count: int = 1) -> list[tuple[int, str]]:
    """Exit status and output of drivers that land at the same time."""
    command = [sys.executable, "-c", DRIVER, store]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(count)]
    outputs = [process.communicate()[0] for process in started]
    return [(process.returncode, output) for process, output in zip(started, outputs, strict=True)]


def test_one_of_two_concurrent_drivers_makes_the_commit(s3: S3, place: Place) -> None:
    ((status, output),) = drivers("ours")
    assert status == 0, output
    place.send(updates(Random(7), 300, keys=50))
    s3.configure(barrier=LANDING)
    both = drivers("ours", 2)
    assert sorted(s3.writes(LANDING)) == [["*", 200], ["*", 412]]
    assert [status for status, _ in both] == [0, 0], both
    assert [output.count("another process has made landing 1") for _, output in both] in ([0, 1], [1, 0])
    assert all("landed: 300 300 300" in output for _, output in both)
    ((_, output),) = drivers("ours")
    assert "landed: 300 300 300" in output


def test_with_deltas_own_log_store_both_drivers_commit(s3: S3, place: Place) -> None:
    """Why there is another one."""
    drivers("delta")
    place.send(updates(Random(7), 300, keys=50))
    s3.configure(barrier=LANDING)
    drivers("delta", 2)
    assert s3.writes(LANDING) == [["", 200], ["", 200]]


def test_a_store_that_ignores_conditions_is_refused(s3: S3, wording: Wording) -> None:
    s3.configure(conditional_writes=False)
    ((status, output),) = drivers("ours")
    assert status == 1
    wording.check(output.partition("unusable: ")[2].partition("\n")[0])
    assert s3.writes(".json") == []
