"""Pages as somebody sees them, in Chromium."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Response, expect, sync_playwright

from tidemark.local.accounts import airflow_passwords, superset_passwords
from tidemark.settings import settings

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LOGINS = 3  # that are tried
SECONDS = 90.0  # that a page may take on a busy machine
CHART = "[data-test=chart-grid-component]"
# What a chart draws: a number, rows of a table, or a picture.
MARKS = ".header-line, table tbody tr, canvas"
NOTHING = "No results were returned for this query"


def browser() -> str:
    """The path of a browser. Skips the test where there is none, but not in CI, which must have one."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        reason = f"there is no browser ({', '.join(BROWSERS)}): apt install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Dashboard:
    """An open dashboard."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def charts(self) -> list[str]:
        """The names of its charts, once there are any."""
        self.page.locator(CHART).first.wait_for()
        return [str(one.get_attribute("data-test-chart-name")) for one in self.page.locator(CHART).all()]

    def chart(self, name: str) -> Locator:
        return self.page.locator(f'{CHART}[data-test-chart-name="{name}"]')

    def wait_until_drawn(self, name: str, *, may_be_empty: bool = False) -> None:
        """Fails where a chart shows an error, or nothing."""
        chart = self.chart(name)
        chart.scroll_into_view_if_needed()
        nothing = chart.get_by_text(NOTHING)
        drawn = chart.locator(MARKS).first
        expect(drawn.or_(nothing).or_(chart.locator("[role=alert]")).first).to_be_visible()
        assert chart.locator("[role=alert]").count() == 0, f"{name}: {chart.inner_text()}"
        assert may_be_empty or nothing.count() == 0, f"{name} shows nothing"

    def number(self, name: str) -> Locator:
        """The figure that a chart of one figure shows."""
        return self.chart(name).locator(".header-line")

    def cells(self, chart: str, title: str) -> Locator:
        """Of a column of a table, on the page that is seen."""
        table = self.chart(chart).locator("table")
        table.locator("tbody tr").first.wait_for()
        titles = [one.inner_text().strip() for one in table.locator("thead th").all()]
        return table.locator(f"tbody tr td:nth-child({titles.index(title) + 1})")

    def column(self, chart: str, title: str) -> list[str]:
        """What the rows of a table show in a column, on the page that is seen."""
        return [one.inner_text().strip() for one in self.cells(chart, title).all()]

    def choose(self, name: str, value: str) -> None:
        """Chooses a value in a filter of that id and applies it."""
        identity = f"NATIVE_FILTER-{name}"
        self.page.locator(f"[data-test={identity}] .ant-select-selector").click()
        self.page.keyboard.type(value)
        self.page.locator(f'.ant-select-dropdown:visible .ant-select-item-option[title="{value}"]').first.click()
        self.page.keyboard.press("Escape")
        self.apply()

    def between(self, name: str, low: float, high: float) -> None:
        """Sets the ends of a range, a filter of that id, and applies it."""
        fields = self.page.locator("form", has=self.page.locator(f"#filter-name-NATIVE_FILTER-{name}")).locator("input")
        for number, value in enumerate((low, high)):
            fields.nth(number).fill(str(value))
            fields.nth(number).press("Tab")
        self.apply()

    def apply(self) -> None:
        self.page.locator("[data-test=filter-bar__apply-button]").click()


class Answers:
    """What a page has last been answered for its charts, from now on."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._last: dict[int, Response] = {}
        page.on("response", self._note)

    def _note(self, response: Response) -> None:
        if of := re.search(r"/chart/data\?form_data=.*slice_id%22%3A(\d+)", response.url):
            self._last[int(of[1])] = response

    def rows(self, chart: int) -> list[dict[str, Any]]:
        """Of the chart of that number; none before it has asked."""
        self._page.wait_for_timeout(50)  # in which the page tells
        return self._last[chart].json()["result"][0]["data"] if chart in self._last else []


@contextmanager
def open_page(address: str, width: int) -> Iterator[Page]:
    """A page whose paths are those of a server."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        try:
            page = running.new_page(base_url=address, viewport={"width": width, "height": 1400})
            page.set_default_timeout(SECONDS * 1000)
            expect.set_options(timeout=SECONDS * 1000)
            yield page
        finally:
            running.close()


@contextmanager
def open_airflow(width: int) -> Iterator[Page]:
    """A page of Airflow's, of its administrator who has logged in."""
    ((name, password),) = airflow_passwords(settings()).items()
    with open_page(settings().airflow_api, width) as page:
        page.goto("/")
        page.locator("input[name=username]").fill(name)
        page.locator("input[name=password]").fill(password)
        page.locator("button[type=submit]").click()
        page.wait_for_url(lambda url: "/auth/login" not in url)
        yield page


@contextmanager
def open_browser(account: str) -> Iterator[Page]:
    """A page of Superset's, of somebody who has logged in."""
    with open_page(settings().superset_url, 1500) as page:
        _log_in(page, account)
        yield page


def _log_in(page: Page, account: str) -> None:
    """A form that is sent before its page is ready is sent in vain."""
    for _ in range(LOGINS):
        page.goto("/login/", wait_until="networkidle")
        page.fill("#username", account)
        page.fill("input[type=password]", superset_passwords(settings())[account])
        page.click("button[type=submit]")
        page.wait_for_load_state("networkidle")
        if page.request.get("/api/v1/me/").ok:
            return
    raise AssertionError(f"{account} cannot log in: {page.url}")


def dashboard(page: Page, slug: str) -> Dashboard:
    page.goto(f"/superset/dashboard/{slug}/")
    opened = Dashboard(page)
    opened.charts()
    return opened
