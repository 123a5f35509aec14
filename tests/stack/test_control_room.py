"""Page Tidemark in Airflow, in a browser: its numbers are those of the state."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect
from support.databases import connected
from support.names import NAMES
from support.stacks import Stack, until

from tidemark.serving.status import state
from tidemark.settings.airflow_names import Dag

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.timeout(1800)]

PARTITION = ("log_start", "published", "landed", "served", "log_end", "behind")


def now() -> Any:
    with connected() as database:
        return state(database)


def figure(page: Page, name: str) -> str:
    return page.locator(f"[data-figure={name}] .value").inner_text()


def partitions(page: Page) -> list[list[str]]:
    """What stands in the table of tide marks, without the pictures."""
    rows = page.locator("[data-part=tides] tbody tr").all()
    return [[cell.inner_text().strip() for cell in row.locator("td").all() if not cell.locator("svg").count()] for row in rows]


def test_the_page_is_in_the_navigation_and_shows_the_state(stack: Stack, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/")
    page.get_by_role("link", name="Tidemark", exact=True).click()
    expect(page.locator("[data-figure=stream] .value")).to_have_text("running")

    def shows_state() -> bool:
        """In one look at either: the stream may be at work between them."""
        current = now()
        freshness = current["freshness"]
        of = {"behind": freshness["events_behind"], "products": current["summary"]["products"]}
        of |= {"publication": freshness["publication"], "quarantine": freshness["quarantined"]}
        rows = [[f"{one['topic']}/{one['partition']}", *(f"{one[name]:,}" for name in PARTITION)] for one in current["partitions"]]
        done = sum(one["events"] for one in current["rates"])
        shown = {name: figure(page, name) for name in of}
        expected = {name: f"{value:,}" for name, value in of.items() if value is not None}
        return shown == expected and partitions(page) == rows and page.locator("[data-sum=events]").inner_text() == f"{done:,}" != "0"

    until(shows_state, "the page says what the state says", lambda: f"{now()}\n{page.locator('main.tidemark').inner_text()}", 60)
    newest = now()["ingestions"]["newest"]
    names = page.locator("[data-part=ingestions] tbody tr td:first-child")
    assert [one.inner_text() for one in names.all()] == [one["name"] for one in newest]
    assert {urlsplit(url).hostname for url in asked if url.startswith("http")} == {"127.0.0.1"}


def test_the_page_refreshes_itself_and_reports_a_server_that_does_not_answer(stack: Stack, page: Page) -> None:
    page.goto("/plugin/tidemark")
    clock = page.locator("main.tidemark header.top .quiet")
    expect(clock).to_contain_text("as of")
    page.evaluate("globalThis.sameDocument = true")
    before = clock.inner_text()
    expect(clock).not_to_have_text(before)
    page.context.set_offline(True)
    expect(page.get_by_role("alert")).to_contain_text("Airflow does not answer. Showing the state as of")
    page.context.set_offline(False)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert page.evaluate("globalThis.sameDocument")


def test_the_page_is_a_tab_of_each_run_and_links_to_the_dags(stack: Stack, page: Page) -> None:
    run = stack.runs()[0]["dag_run_id"]
    page.goto(f"/dags/{NAMES.of(Dag.INGEST)}/runs/{run}")
    page.get_by_role("link", name="Tidemark", exact=True).last.click()
    page.locator("[data-part=publications]").get_by_role("link", name="rebuild").click()
    page.wait_for_url(f"**/dags/{NAMES.of(Dag.REBUILD)}")
