"""Cleans up what Airflow never deletes by itself (records and logs), and files left behind by killed processes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from tidemark.catalog.words import counted

_CONNECTION = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
_SQLITE = "sqlite:///"

log = logging.getLogger("tidemark.housekeeping")


class NotCleaned(Exception):
    """Airflow's command failed; the message contains its last line."""


def is_reachable(database_url: str) -> bool:
    """Can this machine reach that database? An SQLite file may be on another machine."""
    return not database_url.startswith(_SQLITE) or Path(database_url.removeprefix(_SQLITE).partition("?")[0]).exists()


def clean_records(database_url: str, before: datetime) -> None:
    """Deletes the records of runs that started before a moment from Airflow's database, except the last run of each DAG.

    Airflow denies tasks access to its database; its own command has access if the address is in its environment. Raises NotCleaned.
    """
    words = ["db", "clean", "--yes", "--skip-archive", "--error-on-cleanup-failure", "--clean-before-timestamp", before.isoformat()]
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *words],
        env={**os.environ, _CONNECTION: database_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines = [line.rstrip() for line in done.stdout.splitlines() if line.strip()]
    for line in lines:
        log.info("%s", line)
    if done.returncode:
        raise NotCleaned(f"airflow db clean ended with status {done.returncode}: {lines[-1] if lines else ''}")


def delete_old(folder: Path, before: datetime) -> int:
    """Deletes files in a folder that were last modified before a moment, and equally old folders that are then empty.

    The folder itself stays. Files that disappear in the meantime are ignored. Returns the number of deleted files.
    """
    files = 0
    for path in sorted(folder.rglob("*"), reverse=True):  # the contents of a folder come before the folder
        with suppress(OSError):
            # A new folder is kept: its creator is about to write into it.
            if path.lstat().st_mtime >= before.timestamp():
                continue
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
                files += 1
    log.info("deleted %s last modified before %s from %s", counted(files, "file"), f"{before:%Y-%m-%d %H:%M} UTC", folder)
    return files
