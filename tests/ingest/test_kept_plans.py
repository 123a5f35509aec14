"""A file with a preview is read and parsed twice: for the preview, which also plans it, and to be sent."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from support.counted_reads import Counted, CountedRows, counted_rows
from support.csvs import OBSERVED_AT, csv_bytes, product, products
from support.places import Place

from tidemark.ingest import jobs
from tidemark.ingest.files import FileKind
from tidemark.ingest.kept_plans import KeptPlan
from tidemark.ingest.plan import Planned, plan
from tidemark.ingest.produce import RECOMMENDED

ROWS, CHUNK_BYTES = 3_000, 2_000_000


@pytest.fixture
def parsed() -> Iterator[CountedRows]:
    with counted_rows() as counted:
        yield counted


@pytest.fixture(scope="module")
def content() -> bytes:
    """Some MiB that hardly shrink, so that a look at the beginning or at the end of the file is far from another pass."""
    random = Random(4)
    return csv_bytes([[*row[:1], random.randbytes(1_000).hex(), *row[2:]] for row in map(product, range(ROWS))])


def previewed(place: Place, file: jobs.File, **parameters: object) -> jobs.PreviewDecision:
    return jobs.preview_run(place.database, [file], {"chunk_bytes": CHUNK_BYTES, **parameters}, place.settings)


def send(place: Place, planned: jobs.Plan, file: Counted) -> None:
    producer = place.producer()
    for chunk in planned.chunks:
        jobs.produce(place.database, lambda: producer, RECOMMENDED, lambda _: file, place.settings, **chunk)
    jobs.reconcile(place.database, planned.ingestions, place.settings)


def leftovers(place: Place) -> set[str]:
    """The kinds of files in the work folder."""
    work = place.settings.work
    return {one.suffix for one in work.iterdir()} if work.exists() else set()


@pytest.mark.servers
class TestReads:
    def test_a_previewed_file_is_parsed_twice(self, place: Place, tmp_path: Path, content: bytes, parsed: CountedRows) -> None:
        (tmp_path / "a.csv").write_bytes(content)
        counted = Counted(tmp_path / "a.csv")
        file = jobs.File(FileKind.PRODUCT, counted, OBSERVED_AT)
        assert previewed(place, file, hold=True).step == jobs.APPROVE
        assert (round(counted.reads()), leftovers(place)) == (1, {".plan"})
        planned = jobs.plan(place.database, [file], CHUNK_BYTES, place.settings)
        assert (round(counted.reads()), leftovers(place)) == (1, set())
        assert len(planned.chunks) > 2
        send(place, planned, counted)
        assert 2 <= counted.reads() < 2.5
        assert 2 * ROWS <= parsed.rows < 2 * ROWS + 10
        assert sum(place.ends().values()) == ROWS

    def test_a_previewed_compressed_file_is_unpacked_once_and_parsed_twice(
        self, place: Place, tmp_path: Path, content: bytes, parsed: CountedRows
    ) -> None:
        """It is also unpacked once."""
        (tmp_path / "a.csv.gz").write_bytes(gzip.compress(content, 1))
        counted = Counted(tmp_path / "a.csv.gz")
        file = jobs.File(FileKind.PRODUCT, counted, OBSERVED_AT)
        previewed(place, file, hold=True)
        assert leftovers(place) == {".plan", ".csv"}
        planned = jobs.plan(place.database, [file], CHUNK_BYTES, place.settings)
        send(place, planned, counted)
        assert 1 <= counted.reads() < 1.5
        assert 2 * ROWS <= parsed.rows < 2 * ROWS + 10
        assert leftovers(place) == set()

    def test_a_dry_run_keeps_no_plan(self, place: Place, tmp_path: Path, content: bytes, parsed: CountedRows) -> None:
        """It keeps nothing, because no task follows."""
        for name, packed in (("a.csv", content), ("a.csv.gz", gzip.compress(content, 1))):
            (tmp_path / name).write_bytes(packed)
            counted = Counted(tmp_path / name)
            before = parsed.rows
            assert previewed(place, jobs.File(FileKind.PRODUCT, counted, OBSERVED_AT), dry_run=True).step is None
            assert 1 <= counted.reads() < 1.5
            assert ROWS <= parsed.rows - before < ROWS + 10
            assert leftovers(place) == set()

    @pytest.mark.parametrize("packed", [bytes, gzip.compress])
    def test_without_the_kept_plan_the_file_is_planned_again(self, place: Place, tmp_path: Path, packed: Callable[[bytes], bytes]) -> None:
        """Where the plan is missing, the file is planned again."""
        (tmp_path / "a").write_bytes(packed(products(40)))
        file = jobs.File(FileKind.PRODUCT, tmp_path / "a", OBSERVED_AT)
        previewed(place, file, hold=True)
        for kept in place.settings.work.iterdir():
            kept.unlink()
        planned = jobs.plan(place.database, [file], CHUNK_BYTES, place.settings)
        send(place, planned, Counted(tmp_path / "a"))
        assert sum(place.ends().values()) == 40
        assert leftovers(place) == set()

    def test_a_file_changed_since_its_preview_is_planned_again(self, place: Place, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_bytes(products(40, price="12.5"))
        file = jobs.File(FileKind.PRODUCT, path, OBSERVED_AT)
        previewed(place, file, hold=True)
        before = path.stat()
        path.write_bytes(products(40, price="13.5"))
        assert path.stat().st_size == before.st_size
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
        planned = jobs.plan(place.database, [file], CHUNK_BYTES, place.settings)
        assert planned.ingestions == [plan(path, FileKind.PRODUCT, OBSERVED_AT, CHUNK_BYTES).ingestion["_id"]]
        send(place, planned, Counted(path))
        assert sum(place.ends().values()) == 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_bytes(products(40))
    return tmp_path / "a.csv"


def kept(path: Path, chunk_bytes: int = 1_000, kind: FileKind = FileKind.PRODUCT, **named: str) -> KeptPlan:
    return KeptPlan(path.parent, jobs.File(kind, path, OBSERVED_AT), chunk_bytes, named)


@pytest.fixture
def planned(path: Path) -> Planned:
    """A plan that is kept."""
    found = plan(path, FileKind.PRODUCT, OBSERVED_AT, 1_000)._replace(member="a.csv")
    kept(path).keep(found)
    return found


def test_a_kept_plan_is_used_once_and_unchanged(path: Path, planned: Planned) -> None:
    assert kept(path).take() == planned
    assert kept(path).take() is None
    assert [one.name for one in path.parent.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("change", [(b"x", None), (b"", 1)], ids=["longer", "newer"])
def test_a_plan_of_an_older_file_is_not_used(path: Path, planned: Planned, change: tuple[bytes, int | None]) -> None:
    more, seconds = change
    before = path.stat()
    path.write_bytes(path.read_bytes() + more)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (seconds or 0) * 10**9))
    assert kept(path).take() is None


def test_a_plan_of_a_file_that_changes_while_it_is_read_is_not_used(path: Path) -> None:
    begun = kept(path)
    found = plan(path, FileKind.PRODUCT, OBSERVED_AT, 1_000)
    path.write_bytes(products(41))
    begun.keep(found)
    assert kept(path).take() is None


def test_a_plan_for_another_run_is_not_used(path: Path, planned: Planned) -> None:
    assert kept(path, chunk_bytes=1_001).take() is None
    assert kept(path, price="Price").take() is None
    assert kept(path, kind=FileKind.CATEGORY).take() is None
    assert kept(path).take() == planned


def test_without_a_modification_time_no_plan_is_kept(path: Path) -> None:
    os.utime(path, (0, 0))
    kept(path).keep(plan(path, FileKind.PRODUCT, OBSERVED_AT, 1_000))
    assert [one.name for one in path.parent.iterdir()] == ["a.csv"]
