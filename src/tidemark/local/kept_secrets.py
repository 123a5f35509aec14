"""Secrets of one installation, in files that only their owner can read."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path


def kept(file: Path, random_bytes: int = 32) -> str:
    """The secret in a file, which is generated once."""
    return file.read_text() if file.exists() else write(file, secrets.token_urlsafe(random_bytes)).read_text()


def write(file: Path, text: str) -> Path:
    """Writes a file atomically, readable by its owner only."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{socket.gethostname()}-{os.getpid()}")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.rename(file)
    return file
