"""Every way in to a running stack: by command, by form and by backfill, held, watched and not. After every run the reports are those of
the files.
"""

from __future__ import annotations

import json
import signal
import zipfile
from datetime import date, timedelta

import pytest
from playwright.sync_api import Page
from support.catalogs import EVERY_KIND_OF_ROW, SAMPLE_CATEGORIES, SAMPLE_PRODUCTS
from support.forms import Form
from support.names import NAMES
from support.stacks import Stack, until

from tidemark.local import stack as supervised
from tidemark.settings.airflow_names import Dag

SENDING = ("approve", "plan", "produce", "reconcile", "served")
NOTHING_SENT = {name: {"skipped"} for name in SENDING} | {"preview": {"success"}}

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.soak(proof="stack"), pytest.mark.timeout(1800)]


def test_make_run_with_files(stack: Stack) -> None:
    """A date each, the older one last: the newest moment counts, not the order."""
    new, old, categories = stack.catalog("given", rows=150, first=date(2024, 6, 30), days=2, seed=5)
    odd = stack.folder / "given" / "every kind of row.csv"
    odd.write_bytes(EVERY_KIND_OF_ROW)
    days = ["2024-06-30", "2024-06-01", "2024-05-31"]
    stack.local(
        "run", "--products", f"{new},{old},{odd}", "--categories", str(categories), "--observed-at", ",".join(days), "--batch", "no"
    )
    for path, day in zip((new, old, odd), days, strict=True):
        stack.add_ingested(day, products=[path])
    stack.add_ingested(days[0], categories=[categories])
    assert stack.wrong() == []


@pytest.mark.skipif(not SAMPLE_PRODUCTS.exists(), reason=f"there are no real products in {SAMPLE_PRODUCTS.parent}")
def test_make_run_with_real_products(stack: Stack) -> None:
    stack.local(
        "run", "--products", str(SAMPLE_PRODUCTS), "--categories", str(SAMPLE_CATEGORIES), "--observed-at", "2023-12-31", "--batch", "no"
    )
    stack.add_ingested("2023-12-31", products=[SAMPLE_PRODUCTS], categories=[SAMPLE_CATEGORIES])
    assert stack.wrong() == []


def test_a_file_of_the_wrong_kind_fails_at_once_and_sends_nothing(stack: Stack) -> None:
    wrong = stack.folder / "wrong.csv"
    wrong.write_text("asin;title\nB0GOOD0001;a bag\n")
    ends = stack.log_ends()
    output = stack.local("run", "--products", str(wrong), "--observed-at", "2024-01-01", status=1)
    assert "the run has failed: task plan failed: InvalidFile" in output
    assert f"{wrong}: the first line is not the header of a product file" in output
    assert "Nothing was sent" in output
    run = next(one for one in stack.runs() if one["dag_run_id"] in output)
    assert [one["try_number"] for one in stack.task_instances(run["dag_run_id"]) if one["task_id"] == "plan"] == [1]
    assert stack.log_ends() == ends


def test_a_run_does_not_wait_for_a_paused_dag(stack: Stack) -> None:
    with stack.airflow() as airflow:
        assert airflow._http.patch(f"/dags/{NAMES.of(Dag.INGEST)}", json={"is_paused": True}).is_success
        try:
            output = stack.local("run", "--rows", "400", "--days", "2", status=1)
        finally:
            assert airflow._http.patch(f"/dags/{NAMES.of(Dag.INGEST)}", json={"is_paused": False}).is_success
    assert f"DAG {NAMES.of(Dag.INGEST)} is paused: unpause it at http://" in output


def test_a_backfill_includes_its_first_and_last_day(stack: Stack, page: Page) -> None:
    """Over the end of a February; each day's files, as of that day."""
    first = date(2024, 2, 28)
    days = [(first + timedelta(days=number)).isoformat() for number in range(3)]
    *products, categories = stack.catalog("days", rows=150, first=first, days=3, seed=6)
    categories = categories.rename(categories.with_name(f"categories_{days[1]}.csv"))
    made = Form(page, Dag.INGEST).backfill(first, first + timedelta(days=2))
    assert stack.backfilled(made) == dict.fromkeys(days, "success")
    for path, day in zip(products, days, strict=True):
        stack.add_ingested(day, products=[path])
    stack.add_ingested(days[1], categories=[categories])
    assert stack.wrong() == []


def test_a_manual_run_of_one_day(stack: Stack) -> None:
    products, unused = stack.catalog("days", rows=100, first=date(2024, 8, 1), seed=7)
    unused.unlink()
    assert stack.end_of(stack.trigger("2024-08-01")) == "success"
    stack.add_ingested("2024-08-01", products=[products])
    assert stack.wrong() == []


def test_a_day_without_files_is_skipped(stack: Stack) -> None:
    ends = stack.log_ends()
    run = stack.trigger("2020-02-02")
    assert stack.end_of(run) == "success"
    assert stack.states(run) == NOTHING_SENT
    assert stack.log_ends() == ends


def test_a_dry_run_sends_nothing(stack: Stack) -> None:
    """As somebody sees it, of an archive with other columns; then what it has promised happens."""
    products, categories = stack.catalog("dry", rows=120, first=date(2024, 8, 3), seed=12)
    text = products.read_text().replace("asin,title", "code,title", 1)
    archive = stack.folder / "dry" / "archive.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("some/products.csv", text)
        out.writestr("some/categories.csv", categories.read_bytes())
    given = ("--products", str(archive), "--categories", str(archive), "--observed-at", "2024-08-03", "--columns", "asin=code")
    ends, before = stack.log_ends(), stack.served_reports()
    output = stack.local("dry-run", *given)
    for word in ("rows in 2 files", "Products: ", "Largest changes by category", "Nothing was sent"):
        assert word in output
    (run,) = (one for one in stack.runs() if one["conf"].get("dry_run"))
    assert stack.states(run["dag_run_id"]) == NOTHING_SENT
    with stack.airflow() as airflow:
        promised = airflow.result(run["dag_run_id"], "preview", "preview")
    assert (stack.log_ends(), stack.served_reports()) == (ends, before)

    stack.local("run", *given, "--batch", "no")
    (summary,) = stack.served_reports()["report_summary"]
    assert {name: summary[name] for name in ("products", "discounted")} == {
        name: promised["after"][name] for name in ("products", "discounted")
    }
    assert summary["average_price"] == pytest.approx(promised["after"]["average_price"], rel=1e-12)
    assert not list((stack.home / "work").iterdir())
    # What stands in the archive is what a plain file says, but for the bytes before a row.
    (stack.folder / "dry" / "as read.csv").write_text(text.replace("code,title", "asin,title", 1))
    stack.add_ingested_as("2024-08-03", str(archive), stack.folder / "dry" / "as read.csv", "product")
    stack.add_ingested_as("2024-08-03", str(archive), categories, "category")
    assert stack.wrong() == []


def test_a_held_run_waits_for_approval(stack: Stack) -> None:
    """Rejected, it sends nothing; approved, it goes on. Whoever waits is told where to decide."""
    products, _ = stack.catalog("held", rows=80, first=date(2024, 8, 4), seed=13)
    conf = {"products": [str(products)], "observed_at": ["2024-08-04"], "hold": True}
    ends = stack.log_ends()
    run = stack.trigger(**conf)
    stack.decide(run, "Reject")
    assert stack.end_of(run) == "success"
    assert stack.states(run) == NOTHING_SENT | {"approve": {"success"}}
    assert stack.log_ends() == ends

    run = stack.trigger(**conf)
    body = stack.decide(run, "Approve")
    assert " rows in 1 file**" in body
    assert stack.end_of(run) == "success"
    stack.add_ingested("2024-08-04", products=[products])
    assert stack.wrong() == []


def test_a_run_continues_after_its_client_has_ended(stack: Stack) -> None:
    products, _ = stack.catalog("interrupted", rows=100, first=date(2024, 8, 2), seed=8)
    with stack.command("run", "--products", str(products), "--observed-at", "2024-08-02", PYTHONUNBUFFERED="1") as running:
        assert running.stdout is not None
        page = next(line.strip() for line in running.stdout if "/runs/" in line)
        running.send_signal(signal.SIGINT)
        assert "interrupted; started programs keep running" in running.stdout.read()
        assert running.wait(60) == 1
    assert stack.end_of(page.rpartition("/")[2]) == "success"
    stack.add_ingested("2024-08-02", products=[products])
    assert stack.wrong() == []


def test_waiting_runs_do_not_block_runs_that_send(stack: Stack) -> None:
    server = supervised._server(stack.home)
    server.supervisor.stopProcess("speed")
    output = json.loads(stack.local("status", "--json", status=1))["speed"]
    assert (output["healthy"], output["detail"][:7]) == (False, "stopped"), "whatever its last heartbeat says"
    runs = []
    for number in range(4):
        day = date(2024, 9, 1 + number)
        products, _ = stack.catalog(f"waiting {number}", rows=60, first=day, seed=20 + number)
        runs.append(stack.trigger(products=[str(products)], observed_at=[day.isoformat()]))
        stack.add_ingested(day.isoformat(), products=[products])

    def all_sent() -> bool:
        return all(stack.states(run)["reconcile"] == {"success"} for run in runs)

    until(all_sent, "all runs have sent their chunks", lambda: str([stack.states(run) for run in runs]))
    assert "speed  stopped" in stack.local("status", status=None)
    assert {state for run in runs for state in stack.states(run)["served"]}.isdisjoint({"success", "failed"})
    server.supervisor.startProcess("speed")
    assert [stack.end_of(run) for run in runs] == ["success"] * 4
    assert stack.wrong() == []
