"""Nights of the whole stack in which the stream's numbers have been made wrong, and a person is asked what is to be done."""

from __future__ import annotations

from datetime import date

import pytest
from playwright.sync_api import Page
from support.databases import connected
from support.forms import Form, answer
from support.stacks import Stack

from tidemark.serving import publications
from tidemark.settings.airflow_names import Dag

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.soak(proof="forms"), pytest.mark.timeout(3600)]

ALTERED = "altered behind the stream's back"


def served() -> int:
    with connected() as database:
        return publications.served(database)


def title(asin: str) -> str:
    with connected() as database:
        product = database.product.find_one({"_id": asin})
    assert product is not None
    return str(product["title"])


def night(stack: Stack, **conf: object) -> str:
    with stack.airflow() as airflow:
        return airflow.trigger(conf, Dag.NIGHTLY_BATCH)


def test_drift_waits_for_approval(stack: Stack) -> None:
    """Refused, the former publication stays served and the wrong product with it; approved, all is right."""
    products, categories = stack.catalog("asked", rows=150, first=date(2024, 3, 1), seed=41)
    stack.local("run", "--products", str(products), "--categories", str(categories), "--observed-at", "2024-03-01")
    stack.add_ingested("2024-03-01", products=[products], categories=[categories])
    before = served()
    with connected() as database:
        one = database.product.find_one_and_update({}, {"$set": {"title": ALTERED}})
    assert one is not None

    run = night(stack, on_drift="ask")
    assert one["_id"] in stack.question_of(run, Dag.NIGHTLY_BATCH)
    assert served() == before
    stack.decide(run, "Reject", Dag.NIGHTLY_BATCH)
    assert stack.end_of(run, Dag.NIGHTLY_BATCH) == "success"
    assert stack.states(run, Dag.NIGHTLY_BATCH)["publish"] == {"skipped"}
    assert served() == before
    assert title(one["_id"]) == ALTERED

    run = night(stack, on_drift="ask")
    stack.decide(run, "Approve", Dag.NIGHTLY_BATCH)
    assert stack.end_of(run, Dag.NIGHTLY_BATCH) == "success"
    assert served() > before
    assert title(one["_id"]) == one["title"]
    assert stack.wrong() == []


def test_a_held_nightly_batch_can_be_rejected(stack: Stack, page: Page) -> None:
    """From its form, and refused in the browser: the former publication stays served, until the next night makes another one."""
    products, categories = stack.catalog("held", rows=120, first=date(2024, 3, 2), seed=42)
    words = ("--products", str(products), "--categories", str(categories), "--observed-at", "2024-03-02", "--batch", "no")
    stack.local("run", *words)
    stack.add_ingested("2024-03-02", products=[products], categories=[categories])
    before = served()
    form = Form(page, Dag.NIGHTLY_BATCH)
    form.fill(mode="incremental", hold=True)
    run = form.trigger()
    shown = answer(page, stack, Dag.NIGHTLY_BATCH, run, "approve", "Reject")
    assert "average price" in shown
    assert "no drift" in shown
    stack.succeeds(run, Dag.NIGHTLY_BATCH)
    assert served() == before
    run = night(stack)
    assert stack.end_of(run, Dag.NIGHTLY_BATCH) == "success"
    assert served() > before
    assert stack.wrong() == []
