"""The whole stack on one machine, in the order in which somebody would meet it. After every run the reports are those of the files."""

from __future__ import annotations

import json
import signal
import zipfile
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page
from support.catalogs import EVERY_KIND_OF_ROW, SAMPLE_CATEGORIES, SAMPLE_PRODUCTS
from support.forms import Form
from support.pages import Pages
from support.stacks import PORTS, Stack, kill_chunk, kill_program, until, yesterday

from local import processes
from local import stack as supervised
from local.programs import PROGRAMS, marks
from local.runs import Airflow, Refused
from serving.database import connect, tidemark

SENDING = ("approve", "plan", "produce", "reconcile", "served")
NOTHING_SENT = {name: {"skipped"} for name in SENDING} | {"preview": {"success"}}

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
    assert stack.states(run["dag_run_id"]) == {name: {"success"} for name in ("preview", *SENDING)} | {"approve": {"skipped"}}
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
        stack.took(day, products=[path])
    stack.took(days[0], categories=[categories])
    assert stack.wrong() == []


@pytest.mark.skipif(not SAMPLE_PRODUCTS.exists(), reason=f"there are no real products in {SAMPLE_PRODUCTS.parent}")
def test_make_run_with_real_products(stack: Stack) -> None:
    stack.local(
        "run", "--products", str(SAMPLE_PRODUCTS), "--categories", str(SAMPLE_CATEGORIES), "--observed-at", "2023-12-31", "--batch", "no"
    )
    stack.took("2023-12-31", products=[SAMPLE_PRODUCTS], categories=[SAMPLE_CATEGORIES])
    assert stack.wrong() == []


def test_a_file_of_another_kind_fails_at_once_and_sends_nothing(stack: Stack) -> None:
    wrong = stack.folder / "wrong.csv"
    wrong.write_text("asin;title\nB0GOOD0001;a bag\n")
    ends = stack.log_ends()
    said = stack.local("run", "--products", str(wrong), "--observed-at", "2024-01-01", status=1)
    assert "the run has failed: task plan failed: UnfitFile" in said
    assert f"{wrong}: the first line is not the header of a product file" in said
    assert "Nothing of it has been sent" in said
    run = next(one for one in stack.runs() if one["dag_run_id"] in said)
    assert [one["try_number"] for one in stack.task_instances(run["dag_run_id"]) if one["task_id"] == "plan"] == [1]
    assert stack.log_ends() == ends


def test_airflow_refuses_what_is_no_date(stack: Stack) -> None:
    with pytest.raises(Refused, match="observed_at"):
        stack.trigger(products=["/in/a.csv"], observed_at=["yesterday"])


def test_a_paused_dag_is_not_waited_for(stack: Stack) -> None:
    with Airflow() as airflow:
        assert airflow._http.patch("/dags/ingest", json={"is_paused": True}).is_success
        try:
            said = stack.local("run", "--rows", "400", "--days", "2", status=1)
        finally:
            assert airflow._http.patch("/dags/ingest", json={"is_paused": False}).is_success
    assert "DAG ingest is paused: unpause it at http://" in said


def test_days_of_a_backfill_the_first_and_the_last_among_them(stack: Stack, page: Page) -> None:
    """Over the end of a February; each day's files, as of that day."""
    first = date(2024, 2, 28)
    days = [(first + timedelta(days=number)).isoformat() for number in range(3)]
    *products, categories = stack.catalog("days", rows=150, first=first, days=3, seed=6)
    categories = categories.rename(categories.with_name(f"categories_{days[1]}.csv"))
    made = Form(page, "ingest").backfill(first, first + timedelta(days=2))
    assert stack.backfilled(made) == dict.fromkeys(days, "success")
    for path, day in zip(products, days, strict=True):
        stack.took(day, products=[path])
    stack.took(days[1], categories=[categories])
    assert stack.wrong() == []


def test_a_day_by_hand(stack: Stack) -> None:
    products, unused = stack.catalog("days", rows=100, first=date(2024, 8, 1), seed=7)
    unused.unlink()
    assert stack.end_of(stack.trigger("2024-08-01")) == "success"
    stack.took("2024-08-01", products=[products])
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
    said = stack.local("dry-run", *given)
    for word in ("rows in 2 files", "Products: ", "Categories that change most", "Nothing has been sent"):
        assert word in said
    (run,) = (one for one in stack.runs() if one["conf"].get("dry_run"))
    assert stack.states(run["dag_run_id"]) == NOTHING_SENT
    with Airflow() as airflow:
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
    stack.took_as("2024-08-03", f"{archive}/some/products.csv", stack.folder / "dry" / "as read.csv", "product")
    stack.took_as("2024-08-03", f"{archive}/some/categories.csv", categories, "category")
    assert stack.wrong() == []


def test_a_run_holds_for_a_person(stack: Stack) -> None:
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
    stack.took("2024-08-04", products=[products])
    assert stack.wrong() == []


def test_a_run_goes_on_without_whoever_started_it(stack: Stack) -> None:
    products, _ = stack.catalog("interrupted", rows=100, first=date(2024, 8, 2), seed=8)
    with stack.command("run", "--products", str(products), "--observed-at", "2024-08-02", PYTHONUNBUFFERED="1") as running:
        assert running.stdout is not None
        page = next(line.strip() for line in running.stdout if "/runs/" in line)
        running.send_signal(signal.SIGINT)
        assert "interrupted; what was started runs on" in running.stdout.read()
        assert running.wait(60) == 1
    assert stack.end_of(page.rpartition("/")[2]) == "success"
    stack.took("2024-08-02", products=[products])
    assert stack.wrong() == []


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


def test_runs_that_wait_for_the_stream_keep_none_from_sending(stack: Stack) -> None:
    server = supervised._server()
    server.supervisor.stopProcess("speed")
    said = json.loads(stack.local("status", "--json", status=1))["speed"]
    assert (said["healthy"], said["detail"][:7]) == (False, "stopped"), "whatever its last heartbeat says"
    runs = []
    for number in range(4):
        day = date(2024, 9, 1 + number)
        products, _ = stack.catalog(f"waiting {number}", rows=60, first=day, seed=20 + number)
        runs.append(stack.trigger(products=[str(products)], observed_at=[day.isoformat()]))
        stack.took(day.isoformat(), products=[products])

    def all_sent() -> bool:
        return all(stack.states(run)["reconcile"] == {"success"} for run in runs)

    until(all_sent, "all runs have sent their chunks", lambda: str([stack.states(run) for run in runs]))
    assert "speed  stopped" in stack.local("status", status=None)
    assert {state for run in runs for state in stack.states(run)["served"]}.isdisjoint({"success", "failed"})
    server.supervisor.startProcess("speed")
    assert [stack.end_of(run) for run in runs] == ["success"] * 4
    assert stack.wrong() == []


def test_chunks_and_streams_that_are_killed(stack: Stack) -> None:
    """A chunk's task and its worker, then the stream: both start again by themselves, and nothing is lost or doubled."""
    products, _ = stack.catalog("killed", rows=2_000, first=date(2024, 10, 1), seed=9)
    generation = stack.generation()
    run = stack.trigger(products=[str(products)], observed_at=["2024-10-01"], chunk_bytes=12_000)
    killed = kill_chunk(stack, run, kept=2)
    kill_program("speed")
    assert stack.end_of(run) == "success"
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
