"""How full the disks are: MongoDB's, as it reports it, and the one of a folder on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from pymongo.database import Database

from tidemark.serving.database import Document


class Disk(NamedTuple):
    """Bytes in use, and those that could be in use. `what` names it for people."""

    what: str
    used: int
    total: int

    @property
    def share(self) -> float:
        return self.used / self.total if self.total else 0.0


def measure(database: Database[Document], folder: Path) -> list[Disk]:
    """The disk of MongoDB, unless it does not say, and the one that holds a folder, unless that does not exist."""
    found = []
    stats = database.command("dbStats")
    if "fsTotalSize" in stats:
        found.append(Disk("MongoDB's disk", int(stats["fsUsedSize"]), int(stats["fsTotalSize"])))
    if folder.exists():
        disk = shutil.disk_usage(folder)
        found.append(Disk(f"the disk of {folder}", disk.used, disk.used + disk.free))  # some of it may be reserved for root
    return found
