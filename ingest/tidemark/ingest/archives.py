"""Compressed files: a file of a zip archive, or a gzip file, as a file of the work folder."""

from __future__ import annotations

import gzip
import logging
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tidemark.ingest.files import MOST_RECORD_BYTES, FileKind, Readable, UnfitFile
from tidemark.ingest.layouts import AS_THEY_ARE, Columns, layout

log = logging.getLogger(__name__)

_ZIP, _GZIP = (b"PK\x03\x04", b"PK\x05\x06"), b"\x1f\x8b"
_AT_ONCE = 1024 * 1024  # bytes
_PROGRESS_SECONDS = 5.0
_LEFT_SECONDS = 24 * 3600.0  # after which what a process has left unfinished is nobody's work any more
_DAMAGED = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)


@dataclass(frozen=True)
class Unpacked:
    """A file inside a compressed one. It is unpacked where it is opened and the work folder does not hold it (any more)."""

    source: Readable
    member: str  # its name in a zip archive; empty for gzip
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
        """Under a name of its own first, so that nobody ever sees half of it."""
        folder = self.local.parent
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        unfinished = folder / f"{uuid.uuid4().hex}.part"
        try:
            with _opened(self.source, self.member) as packed, unfinished.open("wb") as out:
                _copy(packed, out, str(self))
            unfinished.rename(self.local)
        except OSError as error:
            raise OSError(error.errno, f"{self} cannot be unpacked to {folder}: {error.strerror or error}") from error
        finally:
            unfinished.unlink(missing_ok=True)


def member(file: Readable, kind: FileKind, named: Columns = AS_THEY_ARE) -> str | None:
    """Which file of a compressed one is of that kind: the name in a zip archive, empty for gzip; None where it is not compressed.

    Raises UnfitFile where it is damaged, or an archive does not hold exactly one such file.
    """
    with file.open("rb") as raw:
        begins = raw.read(4)
    if begins.startswith(_GZIP):
        return ""
    if begins not in _ZIP:
        return None
    fit, unfit = [], []
    with file.open("rb") as raw, _readable(), zipfile.ZipFile(raw) as archive:
        for one in archive.infolist():
            if one.is_dir() or one.filename.startswith("__MACOSX/"):
                continue
            if one.flag_bits & 1:
                raise UnfitFile("it is encrypted: unpack it and name the file")
            with archive.open(one) as packed:
                begins = packed.read(MOST_RECORD_BYTES + 1)
            try:
                layout(begins, kind, named)
                fit.append(one.filename)
            except UnfitFile as reason:
                unfit.append(f"{one.filename}: {reason}")
    if len(fit) > 1:
        raise UnfitFile(f"it holds {len(fit)} {kind} files ({', '.join(fit[:5])}): unpack it and name the files")
    if not fit:
        raise UnfitFile(f"it holds no {kind} file: {'; '.join(unfit[:3]) or 'it is empty'}")
    return fit[0]


@contextmanager
def plain(file: Readable, kind: FileKind, named: Columns, folder: Path) -> Iterator[Readable]:
    """The file, or, where it is compressed, what it holds of that kind, unpacked for as long. Raises UnfitFile, naming the file."""
    try:
        name = member(file, kind, named)
    except UnfitFile as reason:
        raise UnfitFile(f"{file}: {reason}. Nothing of it has been sent") from None
    if name is None:
        yield file
        return
    unpacked = Unpacked(file, name, folder / f"{uuid.uuid4().hex}.part")
    try:
        yield unpacked
    finally:
        unpacked.local.unlink(missing_ok=True)


def kept(folder: Path, ingestion: str) -> Path:
    """Where an ingestion's file is unpacked."""
    return folder / f"{ingestion}.csv"


@contextmanager
def _readable() -> Iterator[None]:
    """Raises UnfitFile for what the libraries say of a file that is no such archive, or none that they can read."""
    try:
        yield
    except _DAMAGED as error:
        raise UnfitFile(f"it is damaged ({error}): was it written to its end?") from error
    except NotImplementedError as error:
        raise UnfitFile(f"it is compressed in a way that is not known here ({error}): unpack it and name the file") from error


@contextmanager
def _opened(file: Readable, name: str) -> Iterator[IO[bytes]]:
    with _readable(), file.open("rb") as raw:
        if not name:
            with gzip.GzipFile(fileobj=raw) as packed:
                yield packed  # type: ignore[misc]
            return
        with zipfile.ZipFile(raw) as archive:
            try:
                packed_member = archive.open(name)
            except KeyError:
                raise UnfitFile(f"it holds no {name} any more: it has changed since it was planned") from None
            with packed_member:
                yield packed_member


def _copy(packed: IO[bytes], out: IO[bytes], what: str) -> None:
    told, done = time.monotonic(), 0
    while some := packed.read(_AT_ONCE):
        out.write(some)
        done += len(some)
        if time.monotonic() - told > _PROGRESS_SECONDS:
            told = time.monotonic()
            log.info("%s: %d MiB unpacked", what, done >> 20)


def _remove_leftovers(folder: Path) -> None:
    for left in folder.glob("*.part"):
        try:
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                left.unlink()
        except FileNotFoundError:
            pass
