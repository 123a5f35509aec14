"""The whole stack on one machine, in the order in which somebody would meet it. After every run the reports are those of the files."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page
from support.forms import Form
from support.pages import Pages
from support.stacks import PORTS, Stack, kill_chunk, kill_program, until, yesterday

from local import processes
from local import stack as supervised
from local.programs import PROGRAMS, marks
from local.runs import Refused
from serving.database import connect, tidemark

SENT = {name: {"success"} for name in ("preview", "plan", "produce", "reconcile", "served")} | {"approve": {"skipped"}}

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.timeout(1800)]


def test_everything_is_healthy(stack: Stack) -> None:
    def healthy() -> dict | None:
        said = json.loads(stack.local("status", "--json", status=None))
        return said if all(one["healthy"] for name, one in said.items() if name != "state") else None

    said = until(healthy, "everything is healthy", lambda: stack.local("status", status=None))
    assert list(said) == ["kafka", "mongodb", "airflow", "api", "speed", "superset", "state"]
    state = said.pop("state")
    assert {name: said["superset"][name] for name in ("username", "password")} == {"username": "admin", "password": "admin"}
    assert all(one["healthy"] is True for one in said.values())
    until(lambda: _says_healthy(stack), "everything is said to be healthy")
    for name, port in {"kafka": "kafka_port", "mongodb": "mongodb_port", "airflow": "airflow_port", "speed": "spark_ui_port"}.items():
        assert f"127.0.0.1:{stack.settings[port]}" in said[name]["url"]
    assert set(state) == {
        *("at", "freshness", "summary", "stream", "log", "raw_history", "partitions", "rates", "quarantine", "verification", "night"),
        *("alerts", "publications", "ingestions"),
    }
    assert state["stream"]["alive"] is True
    assert httpx.get(said["speed"]["url"], follow_redirects=True, timeout=60).is_success
    assert "tidemark_speed_micro_batch_seconds_count" in httpx.get(said["speed"]["metrics"], timeout=60).text


def _says_healthy(stack: Stack) -> bool:
    with stack.command("status") as running:
        said, _ = running.communicate()
    return running.returncode == 0 and "healthy" in said


def test_the_day_that_has_ended_is_run_by_the_scheduler(stack: Stack) -> None:
    runs = [one for one in stack.runs() if one["run_type"] == "scheduled"]
    run = min(runs, key=lambda one: one["partition_key"])
    assert run["state"] == "success"
    assert [run["partition_key"]] * 2 == [one.day for one in stack.ingested]
    # Another day may have ended since.
    days = sorted({run["partition_key"], yesterday().isoformat()})
    assert sorted(one["partition_key"] for one in runs) in (days[:1], days)
    assert stack.states(run["dag_run_id"]) == SENT
    assert stack.wrong() == []


def test_make_run(stack: Stack) -> None:
    said = stack.local("run", "--rows", "400", "--days", "2")
    folder = stack.home / "catalogs" / "400-rows-2-days"
    days = ["2024-01-01", "2024-01-02"]
    for day in days:
        stack.took(day, products=[folder / f"products_{day}.csv"])
    stack.took(days[-1], categories=[folder / "categories.csv"])
    assert stack.wrong() == []
    (summary,) = stack.served_reports()["report_summary"]
    for text in ("Served after", f"│ {summary['products']:,} ", "Products by price level", "The 10 largest categories", "Freshness"):
        assert text in said
    assert "no drift" in said
    assert stack.wrong_history([*days, "2023-12-31"]) == []
    with connect() as client:
        assert tidemark(client).report_freshness.find_one({}, {"_id": False, "publication": True, "drift": True})["drift"] == 0
    assert f"http://127.0.0.1:{stack.settings['airflow_port']}" in said


def test_make_run_again_changes_nothing(stack: Stack) -> None:
    before, ends = stack.served_reports(), stack.log_ends()
    said = stack.local("run", "--rows", "400", "--days", "2")
    assert "Served after" in said
    assert "Nothing is new since the last nightly run" in said
    assert stack.served_reports() == before
    assert stack.log_ends() == ends


def test_airflow_refuses_what_is_no_date(stack: Stack) -> None:
    with pytest.raises(Refused, match="observed_at"):
        stack.trigger(products=["/in/a.csv"], observed_at=["yesterday"])


def test_start_again_disturbs_nothing(stack: Stack) -> None:
    before = {one.name: one.detail.split(",")[0] for one in supervised.programs()}
    stack.local("start")
    assert {one.name: one.detail.split(",")[0] for one in supervised.programs()} == before


def test_clean_refuses_a_running_stack(stack: Stack) -> None:
    assert "the stack is running: make stop first" in stack.local("clean", status=1)


def test_another_stack_is_told_at_once_which_ports_are_taken(stack: Stack) -> None:
    said = stack.local("start", status=1, TIDEMARK_HOME=str(stack.folder / "another home"))
    for name in PORTS:
        assert f"choose another with TIDEMARK_{name.upper()}=PORT" in said
    assert not (stack.folder / "another home").exists()


def test_logs_of_every_program(stack: Stack) -> None:
    said = stack.local("logs")
    assert {line.split("|")[0].strip() for line in said.splitlines()} == {"supervisor", *(program.name for program in PROGRAMS)}


def test_dashboards_show_the_reports(stack: Stack) -> None:
    """To the account that changes nothing, to the last product."""
    viewer = Pages("viewer")
    until(lambda: "Catalog" in viewer.dashboards(), "the dashboards have been imported", stack.logs)
    served = stack.served_reports()
    (summary,) = served["report_summary"]
    for chart, measure in {
        "Products": "products",
        "Average price": "average_price",
        "Average stars": "average_stars",
        "Best sellers": "best_sellers",
        "Categories": "categories",
    }.items():
        (row,) = viewer.rows(chart)
        assert list(row.values()) == [pytest.approx(summary[measure], rel=1e-12)], chart
    levels = {row["label"]: row["products_sum"] for row in viewer.rows("Products by price level")}
    assert levels == {one["label"]: one["products"] for one in served["report_price_level"]}
    assert next(iter(levels)) == "unknown"
    categories = {row["category_name"]: row for row in viewer.rows("Categories in numbers")}
    assert categories.keys() == {one["category_name"] for one in served["report_category"]}
    for one in served["report_category"]:
        row = categories[one["category_name"]]
        assert (row["products_sum"], row["best_sellers"]) == (one["products"], one["best_sellers"])
        expected = one["average_price"]
        assert row["average_price"] == (expected if expected is None else pytest.approx(expected, rel=1e-12)), one
    (fresh,) = viewer.rows("Freshness")
    assert (fresh["events_behind"], fresh["drift"]) == (0, 0)


def test_a_viewer_changes_nothing(stack: Stack) -> None:
    viewer = Pages("viewer")
    chart, dashboard = viewer.charts()["Products"], viewer.dashboards()["Catalog"]
    tries = (
        ("PUT", f"/chart/{chart}", {"slice_name": "mine"}),
        ("DELETE", f"/chart/{chart}", {}),
        ("PUT", f"/dashboard/{dashboard}", {"dashboard_title": "mine"}),
        ("POST", "/dashboard/", {"dashboard_title": "mine"}),
        ("POST", "/chart/", {"slice_name": "mine", "viz_type": "table", "datasource_id": 1, "datasource_type": "table"}),
        ("POST", "/dataset/", {"database": 1, "table_name": "product"}),
        ("POST", "/sqllab/execute/", {"database_id": 1, "sql": "SELECT 1"}),
    )
    assert {path: viewer.status_of(method, path, body) for method, path, body in tries} == {path: 403 for _, path, _ in tries}


def test_what_a_person_changes_in_superset_stays(stack: Stack) -> None:
    assert stack.local("dashboards", "import").strip() == "nothing is to be imported"
    assert stack.local("dashboards", "export") == "", "the files are as Superset writes them"
    admin = Pages("admin")
    chart = admin.charts()["Products"]
    assert admin.status_of("PUT", f"/chart/{chart}", {"description": "how many there are"}) == 200
    assert "kept as it was changed in Superset: chart Products\n" in stack.local("dashboards", "import")
    assert admin.get(f"/chart/{chart}")["result"]["description"] == "how many there are"
    assert "imported: chart Products\n" in stack.local("dashboards", "import", "--overwrite")
    assert admin.get(f"/chart/{chart}")["result"]["description"] is None


def test_superset_logs_what_people_do_and_no_answers_of_charts(stack: Stack) -> None:
    """A page that refreshes asks for a dozen of them every few seconds, and each answer has many parts."""
    admin = Pages("admin")

    def logged() -> dict[int, str]:
        found = admin.get("/log/?q=(page_size:100)")
        return {number: one["action"] for number, one in zip(found["ids"], found["result"], strict=True)}

    before = logged()
    assert "ChartRestApi.put" in before.values()
    admin.rows("Products")
    asked = {action for number, action in logged().items() if number not in before}
    assert {action.partition(".")[0] for action in asked} == {"ChartRestApi", "LogRestApi"}, asked


def test_a_run_from_its_form_whose_chunk_and_stream_are_killed(stack: Stack, page: Page) -> None:
    """A chunk's task with its worker, then the stream: both start again by themselves, and nothing is lost or doubled."""
    products, _ = stack.catalog("killed", rows=2_000, first=date(2024, 10, 1), seed=9)
    generation = stack.generation()
    form = Form(page, "ingest")
    form.fill(products=[str(products)], observed_at=["2024-10-01"], chunk_bytes=12_000)
    run = form.trigger()
    killed = kill_chunk(stack, run, kept=2)
    kill_program("speed")
    stack.succeeds(run)
    assert stack.states(run) == SENT
    chunks = [one for one in stack.task_instances(run) if one["task_id"] == "produce"]
    assert len(chunks) > 8
    tries = {one["id"]: one["try_number"] for one in chunks}
    assert killed not in tries, "an attempt that was killed has an id of its own"
    assert sorted(tries.values())[-1] > 1
    assert stack.generation() > generation
    stack.took("2024-10-01", products=[products])
    assert stack.wrong() == []


def test_stop_leaves_nothing_running_and_start_finds_everything_again(stack: Stack) -> None:
    before, ends = stack.served_reports(), stack.log_ends()
    assert "stopped" in stack.local("stop")
    assert processes.marked(marks()) == []
    assert stack.local("status", status=1).strip() == "The stack is not running: make run"
    assert "nothing was running" in stack.local("stop")
    stack.local("start")
    assert stack.served_reports() == before
    assert stack.log_ends() == ends
    assert stack.wrong() == []
    kept = (stack.home / "logs" / "speed.log").read_text()
    assert "has stopped at" in kept, "the stream was killed, not stopped"
    assert Path(stack.settings["home"]).is_dir()
