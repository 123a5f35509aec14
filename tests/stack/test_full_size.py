"""A catalog as large as the real one, through the whole stack."""

from __future__ import annotations

import pytest
from support.databases import connected
from support.stacks import Stack, kill_program, until

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.soak(proof="full-size"), pytest.mark.timeout(3600)]

ROWS = 1_426_337  # products of Kaggle's file


def test_a_full_size_catalog_with_a_kill_of_the_stream(stack: Stack) -> None:
    generation = stack.generation()

    def half_served() -> bool:
        with connected() as database:
            return (database.report_summary.find_one() or {}).get("products", 0) > ROWS // 2

    with stack.command("run", "--rows", str(ROWS), "--days", "1") as running:
        until(half_served, "half of it is served", stack.logs, seconds=1_800)
        kill_program(stack, "speed")
        output, _ = running.communicate(timeout=1_800)
    assert running.returncode == 0, output
    assert stack.generation() > generation
    folder = stack.home / "catalogs" / f"{ROWS}-rows-1-days"
    stack.add_ingested("2024-01-01", products=[folder / "products_2024-01-01.csv"], categories=[folder / "categories.csv"])
    assert stack.wrong() == []
