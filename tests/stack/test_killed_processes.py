"""What is killed while the whole stack works starts again by itself, and nothing is lost or doubled."""

from __future__ import annotations

from datetime import date

import pytest
from playwright.sync_api import Page
from support.forms import Form
from support.stacks import SENT, Stack, kill_chunk, kill_program

from tidemark.settings.airflow_names import Dag

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.timeout(1800)]


def test_a_run_whose_chunk_and_stream_are_killed_loses_nothing(stack: Stack, page: Page) -> None:
    """A chunk's task with its worker, then the stream: both start again by themselves, and nothing is lost or doubled."""
    products, _ = stack.catalog("killed", rows=1_000, first=date(2024, 10, 1), seed=9)
    generation = stack.generation()
    form = Form(page, Dag.INGEST)
    form.fill(products=[str(products)], observed_at=["2024-10-01"], chunk_bytes=12_000)
    run = form.trigger()
    page.goto("about:blank")  # its page of the run would ask for news all the time
    killed = kill_chunk(stack, run, kept=2)
    kill_program(stack, "speed")
    stack.succeeds(run)
    assert stack.states(run) == SENT
    chunks = [one for one in stack.task_instances(run) if one["task_id"] == "produce"]
    assert len(chunks) > 8
    tries = {one["id"]: one["try_number"] for one in chunks}
    assert killed not in tries, "an attempt that was killed has an id of its own"
    assert sorted(tries.values())[-1] > 1
    assert stack.generation() > generation
    stack.add_ingested("2024-10-01", products=[products])
    assert stack.wrong() == []
