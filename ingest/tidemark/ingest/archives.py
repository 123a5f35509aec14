"""Compressed input: a member of a zip archive, or a gzip file, unpacked to the work folder."""

from __future__ import annotations

import errno
import gzip
import logging
import shutil
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tidemark.ingest.files import MAX_RECORD_BYTES, FileKind, InvalidFile, Readable
from tidemark.ingest.layouts import UNMAPPED, Columns, layout

log = logging.getLogger(__name__)

_ZIP, _GZIP = (b"PK\x03\x04", b"PK\x05\x06"), b"\x1f\x8b"
_READ_BYTES = 1024 * 1024  # bytes
_PROGRESS_SECONDS = 5.0
MAX_RATIO = 200  # of unpacked to packed bytes; CSV files of catalogs have 3 to 20, what is made to fill disks has 1,000
_RATIO_FROM_BYTES = 64 * 1024 * 1024  # unpacked: smaller files do no harm
MIN_FREE_BYTES = 1024 * 1024 * 1024  # of the disk, which unpacking leaves to others
_LEFTOVER_SECONDS = 24 * 3600.0  # age after which an unfinished file counts as abandoned
_DAMAGED = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)


@dataclass(frozen=True)
class Unpacked:
    """A file inside a compressed file. Opening it unpacks it if the work folder does not (or no longer) contain it."""

    source: Readable
    member: str  # name in the zip archive; empty for gzip
    local: Path

    @property
    def name(self) -> str:
        return PurePosixPath(self.member).name if self.member else self.source.name.removesuffix(".gz")

    def __str__(self) -> str:
        return f"{self.source}/{self.member}" if self.member else str(self.source)

    def open(self, mode: str) -> Any:
        try:
            return self.local.open(mode)
        except FileNotFoundError:
            self._unpack()
            return self.local.open(mode)

    def _unpack(self) -> None:
        """Unpacks to a temporary name, then renames, so that no reader ever sees a partial file."""
        folder = self.local.parent
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        unfinished = folder / f"{uuid.uuid4().hex}.part"
        try:
            with _opened(self.source, self.member) as (packed, consumed), unfinished.open("wb") as out:
                _copy(packed, out, str(self), consumed)
            unfinished.rename(self.local)
        except OSError as error:
            raise OSError(error.errno, f"cannot unpack {self} to {folder}: {error.strerror or error}") from error
        finally:
            unfinished.unlink(missing_ok=True)


def member(file: Readable, kind: FileKind, named: Columns = UNMAPPED) -> str | None:
    """The member of a compressed file that is of that kind: its name in a zip archive, empty for gzip, None if not compressed.

    Raises InvalidFile if the file is damaged, or if an archive does not contain exactly one such member.
    """
    with file.open("rb") as raw:
        begins = raw.read(4)
    if begins.startswith(_GZIP):
        return ""
    if begins not in _ZIP:
        return None
    valid, invalid = [], []
    with file.open("rb") as raw, _readable(), zipfile.ZipFile(raw) as archive:
        for one in archive.infolist():
            if one.is_dir() or one.filename.startswith("__MACOSX/"):
                continue
            if one.flag_bits & 1:
                raise InvalidFile("the archive is encrypted: unpack it and name the file inside")
            with archive.open(one) as packed:
                begins = packed.read(MAX_RECORD_BYTES + 1)
            try:
                layout(begins, kind, named)
                valid.append(one.filename)
            except InvalidFile as reason:
                invalid.append(f"{one.filename}: {reason}")
    if len(valid) > 1:
        raise InvalidFile(
            f"the archive contains {len(valid)} {kind} files ({', '.join(valid[:5])}): unpack it and name the files to ingest"
        )
    if not valid:
        raise InvalidFile(f"the archive contains no {kind} file: {'; '.join(invalid[:3]) or 'it is empty'}")
    return valid[0]


@contextmanager
def plain(file: Readable, kind: FileKind, named: Columns, folder: Path) -> Iterator[Readable]:
    """The file itself or, if it is compressed, its member of that kind, unpacked until the context ends.

    Raises InvalidFile, naming the file.
    """
    try:
        name = member(file, kind, named)
    except InvalidFile as reason:
        raise InvalidFile(f"{file}: {reason}. Nothing was sent") from None
    if name is None:
        yield file
        return
    unpacked = Unpacked(file, name, folder / f"{uuid.uuid4().hex}.part")
    try:
        yield unpacked
    finally:
        unpacked.local.unlink(missing_ok=True)


def keep(file: Readable, folder: Path, ingestion: str) -> str | None:
    """Keeps what plain() has unpacked for an ingestion. Returns the member; None if the file is not compressed."""
    if not isinstance(file, Unpacked):
        return None
    file.local.rename(kept(folder, ingestion))
    return file.member


def kept(folder: Path, ingestion: str) -> Path:
    """The path to which an ingestion's file is unpacked."""
    return folder / f"{ingestion}.csv"


@contextmanager
def _readable() -> Iterator[None]:
    """Turns the libraries' errors for damaged or unsupported archives into InvalidFile."""
    try:
        yield
    except _DAMAGED as error:
        raise InvalidFile(f"the compressed file is damaged ({error}): check that it was written completely") from error
    except NotImplementedError as error:
        raise InvalidFile(f"the compressed file cannot be read ({error}): unpack it and name the file inside") from error


@contextmanager
def _opened(file: Readable, name: str) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    """The unpacked bytes, and how many packed ones have been read of the file."""
    with _readable(), file.open("rb") as raw:
        if not name:
            with gzip.GzipFile(fileobj=raw) as packed:
                yield packed, raw.tell  # type: ignore[misc]
            return
        with zipfile.ZipFile(raw) as archive:
            try:
                packed_member = archive.open(name)
            except KeyError:
                raise InvalidFile(
                    f"the archive no longer contains {name}: it has changed since it was planned. "
                    "Restore the original archive, or ingest the new one under a different name"
                ) from None
            with packed_member:
                start = raw.tell()
                yield packed_member, lambda: raw.tell() - start


def _copy(packed: IO[bytes], out: IO[bytes], what: str, consumed: Callable[[], int]) -> None:
    """Raises InvalidFile for what no catalog is, OSError if the disk would be full."""
    logged_at, done = time.monotonic(), 0
    while some := packed.read(_READ_BYTES):
        done += len(some)
        if done > _RATIO_FROM_BYTES and done > MAX_RATIO * max(1, consumed()):
            raise InvalidFile(
                f"the compressed file unpacks to more than {MAX_RATIO} times its size, which a catalog does not: if it is one, unpack it "
                "and name the file inside"
            )
        _require_space(Path(out.name), len(some))
        out.write(some)
        if time.monotonic() - logged_at > _PROGRESS_SECONDS:
            logged_at = time.monotonic()
            log.info("%s: %d MiB unpacked", what, done >> 20)


def _require_space(file: Path, count: int) -> None:
    if shutil.disk_usage(file.parent).free - count < MIN_FREE_BYTES:
        raise OSError(
            errno.ENOSPC, f"less than {MIN_FREE_BYTES >> 30} GiB of the disk would be free: delete files, or set TIDEMARK_HOME to another"
        )


def _remove_leftovers(folder: Path) -> None:
    for left in folder.glob("*.part"):
        try:
            if time.time() - left.stat().st_mtime > _LEFTOVER_SECONDS:
                left.unlink()
        except FileNotFoundError:
            pass
