"""What people do to a running stack through Airflow's forms: the stream is paused and goes on, a file is withdrawn."""

from __future__ import annotations

import json
from datetime import date

import pytest
from support.stacks import Given, Stack, until

from local.runs import Airflow
from serving import control
from serving.database import connect, tidemark

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.timeout(1200)]


def trigger(dag: str, **conf: object) -> str:
    with Airflow() as airflow:
        return airflow.trigger(conf, dag)


def ended(stack: Stack, run: str, dag: str) -> None:
    state = stack.end_of(run, dag)
    with Airflow() as airflow:
        assert state == "success", airflow.failure(run, dag) + stack.logs()


def ingested(stack: Stack, day: str, seed: int) -> tuple[str, Given]:
    """A file that has been served; its ingestion."""
    products, _ = stack.catalog(f"steering {day}", rows=60, first=date.fromisoformat(day), seed=seed)
    assert stack.end_of(stack.trigger(products=[str(products)], observed_at=[day])) == "success"
    stack.took(day, products=[products])
    with connect() as client:
        found = tidemark(client).ingestion.find_one({"file": str(products)})
    assert found is not None
    return str(found["_id"]), next(one for one in stack.ingested if one.path == str(products))


def test_the_stream_is_paused_and_goes_on(stack: Stack) -> None:
    before = stack.generation()
    ended(stack, trigger("stream", action="pause", reason="Kafka moves"), "stream")

    def paused() -> dict | None:
        """Supervisor has started it again, to wait."""
        found = json.loads(stack.local("status", "--json", status=None))
        return found if found["speed"]["healthy"] and "Kafka moves" in found["speed"]["detail"] else None

    assert until(paused, "the pause is shown")["state"]["stream"]["control"]["stopped_at"] is not None
    assert "the stream is paused by" in stack.local("run", status=1)
    with connect() as client:
        assert control.read(tidemark(client)).pause is not None
    ended(stack, trigger("stream", action="resume"), "stream")
    ended(stack, trigger("stream", action="restart"), "stream")
    assert stack.generation() == before + 2
    ingested(stack, "2024-09-01", seed=61)
    assert stack.wrong() == []


def test_a_file_is_withdrawn(stack: Stack) -> None:
    """Its events are rejected from then on, and a night has made all anew without it; a person has seen first what becomes of it."""
    identity, file = ingested(stack, "2024-09-02", seed=62)
    stack.ingested.discard(file)
    run = trigger("withdraw", ingestion=identity, reason="the wrong day")
    assert "| products | " in stack.decide(run, "Approve", "withdraw")
    ended(stack, run, "withdraw")
    assert stack.wrong() == []
    assert stack.wrong_history(["2024-09-02"]) == []
    with connect() as client:
        database = tidemark(client)
        (shown,) = database.report_ingestion.find({"ingestion": identity})
        assert (shown["accepted"], shown["rejected"]) == (0, shown["file_rows"])
