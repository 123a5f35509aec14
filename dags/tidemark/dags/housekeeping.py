"""What Airflow keeps of its own and never deletes: records, logs; and what was left by those who were killed.

No DAG itself (.airflowignore names it).
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path

_CONNECTION = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
_SQLITE = "sqlite:///"

log = logging.getLogger("tidemark.housekeeping")


class NotCleaned(Exception):
    """Airflow's command has failed; says its last line."""


def is_here(database_url: str) -> bool:
    """Is that database one that this machine reaches? A file may be another machine's."""
    return not database_url.startswith(_SQLITE) or Path(database_url.removeprefix(_SQLITE).partition("?")[0]).exists()


def clean_records(database_url: str, before: datetime) -> None:
    """Deletes what Airflow's database holds of runs that began before a moment; the last one of each DAG stays. Raises NotCleaned.

    Airflow keeps its tasks from its database. Its own command may, as a process that is told where it is.
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
    """Deletes the files in a folder that were last written before a moment, and folders as old that are empty then; returns how many.

    The folder itself stays. What goes meanwhile by itself is none of ours.
    """
    files = 0
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder comes before it
        with suppress(OSError):
            # Whoever has just made a folder is about to write into it.
            if path.lstat().st_mtime >= before.timestamp():
                continue
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
                files += 1
    log.info("%d files last written before %s are deleted from %s", files, before, folder)
    return files
