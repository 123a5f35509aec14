"""Zip archives and gzip files: what is in them is ingested as if it had been unpacked by hand, and nothing of that stays."""

from __future__ import annotations

import errno
import gzip
import io
import os
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from support.csvs import OBSERVED_AT, any_products, categories, products
from support.places import Place
from support.wording import Wording

from tidemark.ingest import archives, jobs
from tidemark.ingest.files import FileKind, InvalidFile
from tidemark.ingest.plan import plan
from tidemark.ingest.produce import RECOMMENDED


def zipped(path: Path, compression: int = zipfile.ZIP_DEFLATED, **files: bytes) -> Path:
    """Files by name, two underscores for a point."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return path


def identity(path: Path, kind: FileKind = FileKind.PRODUCT) -> str:
    """Of the ingestion that a file is."""
    with archives.plain(path, kind, {}, path.parent / "work") as plain:
        return plan(plain, kind, OBSERVED_AT, 1_000).ingestion["_id"]


def leftovers(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def test_a_compressed_file_is_the_same_ingestion(tmp_path: Path) -> None:
    content = products(40)
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(content))
    (tmp_path / "named_otherwise").write_bytes(gzip.compress(content[:700]) + gzip.compress(content[700:]))  # as `cat a.gz b.gz` makes it
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        zipped(tmp_path / f"{compression}.zip", compression, a__csv=content)
    found = {identity(path) for path in tmp_path.iterdir() if path.is_file()}
    assert len(found) == 1
    assert leftovers(tmp_path / "work") == []


def test_the_file_with_the_right_header_is_chosen_from_an_archive(tmp_path: Path) -> None:
    """As the archive of the catalog is published: both files in one."""
    both = zipped(tmp_path / "archive.zip", amazon_products__csv=products(9), amazon_categories__csv=categories(5), README__md=b"# Hello\n")
    assert archives.member(both, FileKind.PRODUCT) == "amazon_products.csv"
    assert archives.member(both, FileKind.CATEGORY) == "amazon_categories.csv"
    with archives.plain(both, FileKind.PRODUCT, {}, tmp_path / "work") as plain:
        assert (plain.name, str(plain)) == ("amazon_products.csv", f"{both}/amazon_products.csv")
        assert plan(plain, FileKind.PRODUCT, OBSERVED_AT, 1_000).ingestion["rows"] == 9


def test_folders_and_macos_metadata_are_ignored(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.mkdir("data")
        archive.writestr("data/products.csv", products(3))
        archive.writestr("__MACOSX/data/._products.csv", products(3))
    assert archives.member(tmp_path / "a.zip", FileKind.PRODUCT) == "data/products.csv"


def encrypted(folder: Path) -> bytes:
    """An archive whose only file says of itself that it is."""
    content = bytearray(zipped(folder / "plain.zip", a__csv=products(2)).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def of_an_unknown_method(folder: Path) -> bytes:
    content = bytearray(zipped(folder / "plain.zip", a__csv=products(2)).read_bytes())
    content[8] = content[content.index(b"PK\x01\x02") + 10] = 97
    return bytes(content)


INVALID_FILES = {
    "no product file": lambda folder: _read(zipped(folder / "x", a__csv=b"id,name\n1,x\n")),
    "nothing": lambda folder: _read(zipped(folder / "x")),
    "two": lambda folder: _read(zipped(folder / "x", a__csv=products(1), b__csv=products(2))),
    "encrypted": encrypted,
    "an unknown method": of_an_unknown_method,
    "a zip cut short": lambda folder: _read(zipped(folder / "x", a__csv=products(900)))[:-900],
    "a gzip cut short": lambda _: gzip.compress(products(900))[:-900],
    "a gzip with a wrong checksum": lambda _: gzip.compress(products(90))[:-8] + bytes(8),
    "gzip in name only": lambda _: b"\x1f\x8bhello, this is not compressed at all",
    "a gzip file of nothing": lambda _: gzip.compress(b""),
}


def _read(path: Path) -> bytes:
    return path.read_bytes()


@pytest.mark.parametrize("what", INVALID_FILES)
def test_invalid_archives_are_refused(what: str, tmp_path: Path, wording: Wording) -> None:
    (tmp_path / "a.packed").write_bytes(INVALID_FILES[what](tmp_path))
    with pytest.raises(InvalidFile) as refused:
        identity(tmp_path / "a.packed")
    wording.check(str(refused.value))
    assert leftovers(tmp_path / "work") == []


def test_leftovers_of_a_killed_process_are_deleted_after_a_day(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    for name, age in (("old.part", 90_000), ("new.part", 60), ("kept.csv", 90_000)):
        (work / name).touch()
        os.utime(work / name, (time.time() - age,) * 2)
    (tmp_path / "a.gz").write_bytes(gzip.compress(products(3)))
    identity(tmp_path / "a.gz")
    assert {path.name for path in leftovers(work)} == {"new.part", "kept.csv"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
def test_a_full_disk_is_reported(tmp_path: Path, wording: Wording) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(products(30_000)))
    small = tmp_path / "work"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(OSError) as full:
            identity(tmp_path / "a.gz")
        assert full.value.errno == errno.ENOSPC
        wording.check(str(full.value))
        assert leftovers(small) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


class Moved:
    """Stands in for a worker on another machine: its work folder is empty."""

    def __init__(self, work: Path) -> None:
        self.times, self._work = 0, work

    def __call__(self, path: str) -> Path:
        self.times += 1
        for unpacked in self._work.iterdir():
            unpacked.unlink()
        return Path(path)


@pytest.mark.servers
@pytest.mark.parametrize("form", ["zip", "gz"])
def test_an_archive_is_produced_chunk_by_chunk(place: Place, tmp_path: Path, form: str) -> None:
    """Also where the work folder forgets what has been unpacked between two chunks. In the end it holds nothing."""
    from random import Random

    content = any_products(Random(8), 120)
    path = tmp_path / f"a.{form}"
    if form == "zip":
        zipped(path, products__csv=content, categories__csv=categories(4))
    else:
        path.write_bytes(gzip.compress(content))
    (tmp_path / "a.csv").write_bytes(content)
    of, plain = place.settings, jobs.File(FileKind.PRODUCT, tmp_path / "a.csv", OBSERVED_AT)
    planned = jobs.plan(place.database, [plain._replace(path=path)], 3_000, of)
    assert len(planned.chunks) > 3
    assert [one.name for one in leftovers(of.work)] == [f"{planned.ingestions[0]}.csv"]
    producer, moved = place.producer(), Moved(of.work)
    for chunk in planned.chunks:
        jobs.produce(place.database, lambda: producer, RECOMMENDED, moved, of, **chunk)
    assert moved.times == len(planned.chunks)
    jobs.reconcile(place.database, planned.ingestions, of)
    assert leftovers(of.work) == []
    assert jobs.plan(place.database, [plain], 3_000, of) == (planned.ingestions, [])
    assert sum(place.ends().values()) == place.database.ingestion.find_one({})["rows"]  # type: ignore[index]


@pytest.mark.servers
def test_an_archive_and_a_plain_file_replace_each_other(place: Place, tmp_path: Path) -> None:
    """A chunk is read from what was given last, whichever run its task belongs to."""
    content, forms = products(40), ("a.zip", "a.csv", "a.csv.gz")
    zipped(tmp_path / "a.zip", inside__csv=content)
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(content))
    members, chunks = [], []
    for name in forms:
        planned = jobs.plan(place.database, [jobs.File(FileKind.PRODUCT, tmp_path / name, OBSERVED_AT)], 2_000, place.settings)
        chunks = chunks or planned.chunks
        (registered,) = place.database.ingestion.find()
        members.append(registered["member"])
        assert (registered["name"], registered["file"]) == ("inside.csv", str(tmp_path / name))
        for kept in leftovers(place.settings.work):
            kept.unlink()
        jobs.produce(place.database, place.producer, RECOMMENDED, Path, place.settings, **chunks[len(members) - 1])
        (tmp_path / name).unlink()
    assert members == ["inside.csv", None, ""]
    assert sum(place.ends().values()) == sum(one["rows"] for one in place.database.ingestion_chunk.find({"status": "done"})) > 0


@pytest.mark.servers
def test_a_changed_archive_is_not_produced(place: Place, tmp_path: Path, wording: Wording) -> None:
    path = zipped(tmp_path / "a.zip", a__csv=products(20))
    planned = jobs.plan(place.database, [jobs.File(FileKind.PRODUCT, path, OBSERVED_AT)], 10**9, place.settings)
    for name, content, label in (("a__csv", products(20, price="13.5"), "of another content"), ("b__csv", products(20), "of another name")):
        zipped(path, **{name: content})
        archives.kept(place.settings.work, planned.ingestions[0]).unlink(missing_ok=True)
        with pytest.raises(InvalidFile) as refused:
            jobs.produce(place.database, place.producer, RECOMMENDED, Path, place.settings, **planned.chunks[0])
        wording.check(str(refused.value), label)
    assert len(place.ends()) == 0


def test_unpacking_a_large_archive_logs_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wording: Wording
) -> None:
    monkeypatch.setattr(archives, "_PROGRESS_SECONDS", 0.0)
    with caplog.at_level("INFO"), (tmp_path / "out").open("wb") as out:
        archives._copy(io.BytesIO(bytes(3 << 20)), out, "a.gz", lambda: 1 << 20)
    wording.check("\n".join(caplog.messages))


@pytest.mark.parametrize("packed", ["zip", "gz"])
def test_what_is_made_to_fill_the_disk_is_refused(tmp_path: Path, packed: str, wording: Wording) -> None:
    """A valid beginning, and then hundreds of megabytes that are as good as nothing."""
    content = products(3) + b"\n" * (100 << 20)
    if packed == "zip":
        zipped(tmp_path / "a.zip", a__csv=content)
    else:
        (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    with pytest.raises(InvalidFile) as refused:
        identity(tmp_path / f"a.{packed}")
    wording.check(str(refused.value))
    assert leftovers(tmp_path / "work") == []
