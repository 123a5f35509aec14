"""Plans that previews have made, kept in the work folder for the task that plans the same files afterwards."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

import bson
from bson.codec_options import CodecOptions

from tidemark.ingest.files import File
from tidemark.ingest.layouts import Columns
from tidemark.ingest.plan import Planned
from tidemark.serving.documents import IngestionFields
from tidemark.serving.ingestions import Chunk

_FIELDS = (*Planned._fields, *Chunk._fields, *IngestionFields.__annotations__)  # plans of earlier code with other fields are not found
_IN_UTC = CodecOptions[dict[str, Any]](tz_aware=True)


class KeptPlan:
    """The plan of a file, kept on this machine. It is used at most once, and only if the file is as it was before it was read.

    The file counts as unchanged if its size and its modification time are the same. Otherwise, and where no plan has been kept (another
    worker, a file system without modification times), the file is planned again. Should an unnoticed change remain, no task sends a chunk:
    each compares its bytes with the plan's digest.
    """

    def __init__(self, folder: Path, file: File, chunk_bytes: int, named: Columns) -> None:
        """To be created before the file is read."""
        state = file.path.stat()
        self._version = f"{state.st_size} {state.st_mtime}" if state.st_mtime else None
        asked = (str(file.kind), str(file.path), file.observed_at.isoformat(), chunk_bytes, sorted(named.items()))
        key = repr((asked, _FIELDS)).encode()
        self._path = folder / f"{hashlib.sha256(key).hexdigest()[:24]}.plan"

    def keep(self, planned: Planned) -> None:
        if self._version is None:
            return
        content = {**planned._asdict(), "chunks": [chunk._asdict() for chunk in planned.chunks], "version": self._version}
        unfinished = self._path.with_name(f"{uuid.uuid4().hex}.part")
        unfinished.write_bytes(bson.encode(content))
        unfinished.rename(self._path)

    def take(self) -> Planned | None:
        """The plan, which is no longer kept; None if there is none of the file as it is."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        self._path.unlink(missing_ok=True)
        found = bson.decode(content, _IN_UTC)
        if found["version"] != self._version:
            return None
        return Planned(found["ingestion"], [Chunk(**chunk) for chunk in found["chunks"]], found["member"])
