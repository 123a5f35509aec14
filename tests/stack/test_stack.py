"""The whole stack on one machine, in the order in which somebody would meet it. After every run the reports are those of the files."""

from __future__ import annotations

import json

import httpx
import pytest
from support.databases import connected
from support.stacks import PORTS, SENT, Stack, until, yesterday

from tidemark.local import stack as supervised
from tidemark.local.programs import PROGRAMS
from tidemark.local.runs import RunRefused

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.timeout(1800)]


def test_every_program_becomes_healthy(stack: Stack) -> None:
    def healthy() -> dict | None:
        output = json.loads(stack.local("status", "--json", status=None))
        return output if all(one["healthy"] for name, one in output.items() if name != "state") else None

    output = until(healthy, "everything is healthy", lambda: stack.local("status", status=None))
    assert list(output) == ["kafka", "mongodb", "airflow", "api", "speed", "superset", "state"]
    state = output.pop("state")
    passwords = [password for name in ("airflow", "superset") for password in output[name]["accounts"].values()]
    assert len({*passwords}) == 3, "each account has its own, which is generated"
    modes = {path: path.lstat().st_mode for path in (stack.home, *stack.home.iterdir()) if not path.is_symlink()}
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}, "only their user may read them"
    assert all(one["healthy"] is True for one in output.values())
    until(lambda: _reports_healthy(stack), "everything is said to be healthy")
    for name, port in {"kafka": "kafka_port", "mongodb": "mongodb_port", "airflow": "airflow_port", "speed": "spark_ui_port"}.items():
        assert f"127.0.0.1:{stack.settings[port]}" in output[name]["url"]
    assert set(state) == {
        *("at", "freshness", "summary", "stream", "log", "raw_history", "partitions", "rates", "quarantine", "verification", "night"),
        *("alerts", "publications", "ingestions"),
    }
    assert state["stream"]["alive"] is True
    assert httpx.get(output["speed"]["url"], follow_redirects=True, timeout=60).is_success
    assert "tidemark_speed_micro_batch_seconds_count" in httpx.get(output["speed"]["metrics"], timeout=60).text


def _reports_healthy(stack: Stack) -> bool:
    with stack.command("status") as running:
        output, _ = running.communicate()
    return running.returncode == 0 and "healthy" in output


def test_the_scheduler_runs_the_day_that_has_ended(stack: Stack) -> None:
    runs = [one for one in stack.runs() if one["run_type"] == "scheduled"]
    run = min(runs, key=lambda one: one["partition_key"])
    assert run["state"] == "success"
    assert sum(one.day == run["partition_key"] for one in stack.ingested) == 2
    # Another day may have ended since.
    days = sorted({run["partition_key"], yesterday().isoformat()})
    assert sorted(one["partition_key"] for one in runs) in (days[:1], days)
    assert stack.states(run["dag_run_id"]) == SENT
    assert stack.wrong() == []


def test_make_run(stack: Stack) -> None:
    output = stack.local("run", "--rows", "400", "--days", "2")
    folder = stack.home / "catalogs" / "400-rows-2-days"
    days = ["2024-01-01", "2024-01-02"]
    for day in days:
        stack.add_ingested(day, products=[folder / f"products_{day}.csv"])
    stack.add_ingested(days[-1], categories=[folder / "categories.csv"])
    assert stack.wrong() == []
    (summary,) = stack.served_reports()["report_summary"]
    for text in ("Served after", f"│ {summary['products']:,} ", "Products by price level", "The 10 largest categories", "Freshness"):
        assert text in output
    assert "no drift" in output
    assert stack.wrong_history([*days, "2023-12-31"]) == []
    with connected() as database:
        assert database.report_freshness.find_one({}, {"_id": False, "publication": True, "drift": True})["drift"] == 0
    assert f"http://127.0.0.1:{stack.settings['airflow_port']}" in output


def test_make_run_again_changes_nothing(stack: Stack) -> None:
    before, ends = stack.served_reports(), stack.log_ends()
    output = stack.local("run", "--rows", "400", "--days", "2")
    assert "Served after" in output
    assert "Nothing is new since the last nightly run" in output
    assert stack.served_reports() == before
    assert stack.log_ends() == ends


def test_pages_answer_under_their_own_names_only(stack: Stack) -> None:
    for url in (f"{stack.of.airflow_api}/", f"{stack.of.airflow_api}/api/v2/version", f"{stack.of.superset_url}/login/"):
        assert httpx.get(url, follow_redirects=True, timeout=60).is_success
        assert httpx.get(url, headers={"Host": "shop.example"}, timeout=60).status_code == httpx.codes.BAD_REQUEST
    assert httpx.get(f"{stack.of.airflow_api}/api/v2/dags", timeout=60).status_code == httpx.codes.UNAUTHORIZED


def test_airflow_refuses_an_invalid_date(stack: Stack) -> None:
    with pytest.raises(RunRefused, match="observed_at"):
        stack.trigger(products=["/in/a.csv"], observed_at=["yesterday"])


def test_starting_a_running_stack_changes_nothing(stack: Stack) -> None:
    before = {one.name: one.detail.split(",")[0] for one in supervised.programs(stack.home)}
    stack.local("start")
    assert {one.name: one.detail.split(",")[0] for one in supervised.programs(stack.home)} == before


def test_clean_refuses_a_running_stack(stack: Stack) -> None:
    assert "the stack is running: make stop first" in stack.local("clean", status=1)


def test_a_second_stack_reports_ports_in_use_at_once(stack: Stack) -> None:
    output = stack.local("start", status=1, TIDEMARK_HOME=str(stack.folder / "another home"))
    for name in PORTS:
        assert f"choose another with TIDEMARK_{name.upper()}=PORT" in output
    assert not (stack.folder / "another home").exists()


def test_logs_of_every_program(stack: Stack) -> None:
    output = stack.local("logs")
    assert {line.split("|")[0].strip() for line in output.splitlines()} == {"supervisor", *(program.name for program in PROGRAMS)}
