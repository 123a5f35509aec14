"""Which days a run of the history is about, and which it refuses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from serving.history import NoDay, NotOver, asked

NOW = datetime(2024, 3, 1, 3, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "first", "last", "changed", "words"),
    [
        ("2024-02-29", None, None, True, ["--changed-up-to", "2024-02-29"]),
        ("2024-02-29", None, None, False, ["--first", "2024-02-29", "--last", "2024-02-29"]),
        ("1990-01-01", None, None, False, ["--first", "1990-01-01", "--last", "1990-01-01"]),
        (None, "2023-01-01", "2024-02-29", False, ["--first", "2023-01-01", "--last", "2024-02-29"]),
        (None, "2024-02-01", None, False, ["--first", "2024-02-01", "--last", "2024-02-01"]),
        ("2024-02-29", "2024-02-01", "2024-02-02", False, ["--first", "2024-02-01", "--last", "2024-02-02"]),
        (None, None, "2024-02-02", True, ["--changed-up-to", "2024-02-02"]),
        (None, None, "2024-02-02", False, ["--first", "2024-02-02", "--last", "2024-02-02"]),
    ],
)
def test_asked(key: str | None, first: str | None, last: str | None, changed: bool, words: list[str]) -> None:
    assert asked(key, first, last, NOW, changed=changed) == words


@pytest.mark.parametrize(
    ("key", "first", "last", "error", "reason"),
    [
        ("2024-03-01", None, None, NotOver, "2024-03-01 has not ended: its history can be computed from 2024-03-02 00:00 UTC on"),
        (None, "2024-02-01", "2124-02-01", NotOver, "2124-02-01 has not ended"),
        (None, None, None, NoDay, "a run by hand says which days"),
        (None, "2024-02-02", "2024-02-01", NoDay, "the last day, 2024-02-01, comes before the first, 2024-02-02"),
        ("2024-2-1", None, None, NoDay, "'2024-2-1' is no day: write it as 2023-12-31"),
    ],
)
def test_refused(key: str | None, first: str | None, last: str | None, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        asked(key, first, last, NOW, changed=True)
