"""Which days a run of the history is about, and which it refuses."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from support.wording import Wording

from tidemark.serving.history import DayNotEnded, InvalidDays, due_days, selected_days

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
def test_days_of_a_run(key: str | None, first: str | None, last: str | None, changed: bool, words: list[str]) -> None:
    assert selected_days(key, first, last, NOW, changed=changed) == words


@pytest.mark.parametrize(
    ("key", "first", "last", "error"),
    [
        pytest.param("2024-03-01", None, None, DayNotEnded, id="the day has not ended"),
        pytest.param(None, "2024-02-01", "2124-02-01", DayNotEnded, id="the last day has not ended"),
        pytest.param(None, None, None, InvalidDays, id="no day"),
        pytest.param(None, "2024-02-02", "2024-02-01", InvalidDays, id="the last comes first"),
        pytest.param("2024-2-1", None, None, InvalidDays, id="no date"),
    ],
)
def test_invalid_days_are_refused(key: str | None, first: str | None, last: str | None, error: type[Exception], wording: Wording) -> None:
    with pytest.raises(error) as refused:
        selected_days(key, first, last, NOW, changed=True)
    wording.check(str(refused.value))


def test_due_days() -> None:
    start, last = date(2024, 1, 1), date(2024, 2, 10)

    def after(*numbers: int) -> set[date]:
        return {start + timedelta(days=number) for number in numbers}

    assert due_days([], [], last) == {last}
    assert due_days([], after(0, 3), last) == after(0, 1, 2, 3, 40), "a gap of 36 days stays one"
    assert due_days([], after(8, 50), last) == after(*range(8, 41)), "one of 31 does not, and what is newer has a night of its own"
    assert due_days(after(20), after(0), last) == after(*range(41)), "a day that is held ends a gap"
    assert due_days(after(0, 40), [], last) == after(40)
