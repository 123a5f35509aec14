"""Every setting of Tidemark, from the environment: `TIDEMARK_` and the field's name in capitals.

The one place that reads the environment. `tidemark.settings.document` writes docs/settings.md from it.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from tidemark.settings.sections import (
    CHECKOUT,
    LOOPBACK,
    AirflowSettings,
    AlertSettings,
    ApiSettings,
    BatchSettings,
    IngestionSettings,
    KafkaSettings,
    SparkSettings,
    StreamSettings,
    SupersetSettings,
)

__all__ = ["CHECKOUT", "LOOPBACK", "Settings", "describe_errors", "java", "settings"]


class Settings(
    SparkSettings,
    AirflowSettings,
    KafkaSettings,
    IngestionSettings,
    ApiSettings,
    StreamSettings,
    BatchSettings,
    AlertSettings,
    SupersetSettings,
):
    """All sections. One process sees one configuration from start to end."""


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once.

    Raises pydantic.ValidationError, which names the variable, where a value is invalid or values contradict each other.
    """
    return Settings()


def java() -> str:
    """The java that everything runs with: JAVA_HOME's, else the PATH's."""
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else "java"


def describe_errors(error: ValidationError) -> list[str]:
    """A line for each invalid variable, and for each contradiction."""
    return [_line(one["loc"], one["input"], one["msg"]) for one in error.errors()]


def _line(where: tuple[int | str, ...], given: object, message: str) -> str:
    message = message.removeprefix("Value error, ")
    if not where:
        return message
    name, *within = where
    if "SecretStr" in str(Settings.model_fields[str(name)].annotation):
        given = "(hidden)"
    return f"TIDEMARK_{'_'.join(map(str, [name, *within])).upper()}={given}: {message}"
