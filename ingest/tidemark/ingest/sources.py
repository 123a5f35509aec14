"""Which files may be ingested: those under the folders and URLs that whoever runs the installation has named.

Whoever may start a run names files, but must not read every file of the machine that runs the task, or make it connect to any server.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from tidemark.settings.sections import HomeSettings, IngestionSettings, separated

DAY = "{day}"  # in patterns
WILDCARDS = frozenset("*?[")
_LOCAL = ("", "file", "local")  # schemes of fsspec
_CHAIN = "::"  # fsspec reads such a URL through a second file system

_Opened = TypeVar("_Opened")


class ForbiddenFile(Exception):
    """The file is not under a folder or URL from which files may be read."""


def allowed(of: IngestionSettings, open_path: Callable[[str], _Opened]) -> Callable[[str], _Opened]:
    """`open_path` for files that may be read; raises ForbiddenFile for others."""

    def opened(name: str) -> _Opened:
        require_allowed(name, of)
        return open_path(name)

    return opened


def require_allowed(name: str, of: IngestionSettings) -> None:
    """Raises ForbiddenFile unless the path or URL lies under a root. Symbolic links are followed first."""
    roots = _roots(of)
    if not any(_is_under(name, root) for root in roots):
        raise ForbiddenFile(
            f"{name} may not be read: it is not under {' or '.join(roots)}. Put the file there, or name its folder in TIDEMARK_INGEST_FROM"
        )


def add_folders(of: HomeSettings, folders: Iterable[str]) -> None:
    """Allows folders and URLs that were named on the command line, which only the owner of the installation has."""
    known = _added(of)
    if new := [folder for folder in dict.fromkeys(folders) if folder not in known]:
        of.added_folders.parent.mkdir(parents=True, exist_ok=True)
        with of.added_folders.open("a") as file:
            file.writelines(f"{folder}\n" for folder in new)


def split(pattern: str) -> tuple[str, str]:
    """The folder or URL that all files of a pattern are under, and the rest of the pattern."""
    parts = pattern.split("/")
    fixed = next((index for index, part in enumerate(parts) if DAY in part or not WILDCARDS.isdisjoint(part)), len(parts) - 1)
    return "/".join(parts[:fixed]) or ("/" if fixed else "."), "/".join(parts[fixed:])


def _roots(of: IngestionSettings) -> list[str]:
    named = separated(of.ingest_from) or _added(of)
    patterns = [split(pattern)[0] for pattern in (of.products_pattern, of.categories_pattern) if pattern]
    return list(dict.fromkeys([*named, *patterns, str(of.catalogs)]))


def _added(of: HomeSettings) -> list[str]:
    return of.added_folders.read_text().splitlines() if of.added_folders.is_file() else []


def _is_under(name: str, root: str) -> bool:
    if _CHAIN in name:
        return False
    if _is_local(name) and _is_local(root):
        return Path(_real(name)).is_relative_to(_real(root))
    if _is_local(name) or _is_local(root) or not {".", ".."}.isdisjoint(name.split("/")):
        return False
    return f"{name}/".startswith(f"{root.rstrip('/')}/")


def _is_local(name: str) -> bool:
    return "://" not in name or urlsplit(name).scheme in _LOCAL


def _real(name: str) -> str:
    """The path that fsspec opens, without symbolic links."""
    return os.path.realpath(Path(name.partition("://")[2] if "://" in name else name).expanduser())
