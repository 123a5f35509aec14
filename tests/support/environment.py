"""Settings of this process, changed for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tidemark.settings import Settings, settings


@contextmanager
def setting(**values: str) -> Iterator[Settings]:
    """`with setting(product_partitions="7")`: the settings of this process and its children, which it yields.

    Where only this process needs them, `Settings(product_partitions=7)` passes them.
    """
    with variables(**values):
        yield settings()


@contextmanager
def variables(**values: str) -> Iterator[None]:
    """The variables of these settings in the environment of this process and its children. The values may be invalid."""
    names = {f"TIDEMARK_{name.upper()}": value for name, value in values.items()}
    before = {name: os.environ.get(name) for name in names}
    os.environ |= names
    settings.cache_clear()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        settings.cache_clear()
