"""The history through Airflow, as somebody backfills it: a range of days, a late file in between, the same again, and a day to come."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from support.names import NAMES
from support.stacks import Stack

from tidemark.settings.airflow_names import Dag

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.soak(proof="history"), pytest.mark.timeout(3600)]


def backfill(stack: Stack, first: date, last: date) -> list[str]:
    """The states in which the runs of a range of days have ended."""
    with stack.airflow() as airflow:
        body = {
            "dag_id": NAMES.of(Dag.HISTORY),
            "from_date": f"{first}T03:00:00Z",
            "to_date": f"{last}T03:00:00Z",
            "reprocess_behavior": "completed",
        }
        answer = airflow._http.post("/backfills", json=body)
        assert answer.is_success, answer.text
        made = answer.json()["id"]

    of_days = stack.backfilled(made, Dag.HISTORY)
    return [state for day, state in of_days.items() if str(first) <= day <= str(last)]


def test_a_range_is_recomputed_after_a_late_file(stack: Stack) -> None:
    first = date(2022, 3, 1)
    days = [first + timedelta(days=number) for number in range(4)]
    *products, categories = stack.catalog("history", rows=150, first=first, days=4, seed=31)
    order = [3, 0, 1]  # the third day's file is late
    given = ",".join(str(products[number]) for number in order), ",".join(str(days[number]) for number in order)
    stack.local("run", "--products", given[0], "--categories", str(categories), "--observed-at", given[1], "--batch", "no")
    for number in order:
        stack.add_ingested(str(days[number]), products=[products[number]])
    stack.add_ingested(str(days[3]), categories=[categories])
    texts = [str(day) for day in days]
    assert backfill(stack, days[0], days[-1]) == ["success"] * 4
    assert stack.wrong_history(texts) == []

    stack.local("run", "--products", str(products[2]), "--observed-at", texts[2], "--batch", "no")
    stack.add_ingested(texts[2], products=[products[2]])
    assert backfill(stack, days[2], days[3]) == ["success"] * 2
    assert stack.wrong_history(texts) == []
