"""The dashboards in a browser, as the account sees them that changes nothing. Numbers are those of the files that have been ingested."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, TimeoutError, expect
from support.browser import Answers, Dashboard, dashboard, open_browser
from support.cube_charts import products, wrong
from support.databases import connected
from support.environment import setting
from support.pages import Pages
from support.recompute import Recomputed
from support.stacks import Stack, until

from tidemark.catalog.cube import label
from tidemark.local import health

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.timeout(1800)]

CATALOG, PRODUCTS, TRENDS, PIPELINE = "tidemark-catalog", "tidemark-products", "tidemark-trends", "tidemark-pipeline"
# Where all is well these say that there is nothing.
EMPTY = {"Differences of the last verification", "Days that are not computed"}
PAGE_ROWS = 20  # of a drilled table
DAYS = ["2024-01-01", "2024-01-02"]


@pytest.fixture(scope="module")
def page(started: Stack) -> Iterator[Page]:
    """Of a stack that has done a night's work."""
    with setting(**started.settings):
        folder = started.home / "catalogs" / "400-rows-2-days"
        files = {day: folder / f"products_{day}.csv" for day in DAYS}
        if not {str(file) for file in files.values()} <= {one.path for one in started.ingested}:
            started.local("run", "--rows", "400", "--days", "2")
            for day, file in files.items():
                started.add_ingested(day, products=[file])
            started.add_ingested(DAYS[-1], categories=[folder / "categories.csv"])
        assert health.superset(started.of).healthy
        until(lambda: len(Pages("viewer").dashboards()) == 4, "the dashboards have been imported", started.logs)
        with open_browser("viewer") as opened:
            yield opened


def products_named(of: Recomputed, name: str) -> int:
    """How many there are in the categories of that name."""
    return sum(products(of, category_id=number) for number in _named(of, name))


def shows(dashboard: Dashboard, chart: str, number: int) -> None:
    expect(dashboard.number(chart)).to_have_text(f"{number:,}")


def plain(text: str) -> bool:
    """Does a page show it as it is?"""
    return " ".join(text.split()) == text and not set(text) & set("<>&")


def a_category(of: Recomputed) -> tuple[int, str]:
    """One of several products in several price levels, whose name no other has."""
    alone = [number for number, name in of.categories.items() if list(of.categories.values()).count(name) == 1 and plain(name)]
    number = max(alone, key=lambda one: len({level for category, level, _ in of.cube if category == one}))
    return number, of.categories[number]


@pytest.mark.parametrize("slug", [CATALOG, pytest.param(PRODUCTS, marks=pytest.mark.soak(proof="dashboards")), TRENDS, PIPELINE])
def test_every_chart_is_rendered_and_nothing_can_be_edited(stack: Stack, page: Page, slug: str) -> None:
    opened = dashboard(page, slug)
    for name in opened.charts():
        opened.wait_until_drawn(name, may_be_empty=name in EMPTY)
    assert page.get_by_text("Edit dashboard").count() == 0


def test_the_catalog_dashboard_shows_the_reports(stack: Stack, page: Page) -> None:
    truth, opened = stack.recomputed(), dashboard(page, CATALOG)
    shows(opened, "Products", products(truth))
    shows(opened, "Best sellers", products(truth, is_best_seller=True))
    shows(opened, "Categories", len({category for category, _, _ in truth.cube}))
    cents, priced = (sum(sums[name] for sums in truth.cube.values()) for name in ("price_cents", "priced"))
    expect(opened.number("Average price")).to_have_text(f"${cents / priced / 100:,.2f}")


def test_filters_change_every_chart(stack: Stack, page: Page) -> None:
    truth, opened, numbers = stack.recomputed(), dashboard(page, CATALOG), Pages("viewer").charts()
    number, name = a_category(truth)
    level = next(level for category, level, _ in truth.cube if category == number and level is not None)
    over_cube = set(opened.charts()) - {"Events behind", "Freshness"}

    def check_all_charts(**dimensions: Any) -> None:
        found: list[str] = []

        def all_agree() -> bool:
            found[:] = [wrong(chart, answers.rows(numbers[chart]), truth, **dimensions) for chart in over_cube]
            return not any(found)

        until(all_agree, f"every chart says what is of {dimensions}", lambda: "\n".join(filter(None, found)))

    answers = Answers(page)
    check_all_charts()
    opened.choose("level", label(level))
    check_all_charts(price_level=level)
    expect(opened.chart("Price levels in numbers").locator("tbody tr")).to_have_count(1)
    assert opened.column("Price levels in numbers", "Products") == [f"{products(truth, price_level=level):,}"]
    opened.choose("category", name)
    check_all_charts(category_id=number, price_level=level)
    shows(opened, "Products", products(truth, category_id=number, price_level=level))
    shows(opened, "Categories", 1)
    expect(opened.chart("Categories in numbers").locator("tbody tr")).to_have_count(1)
    assert opened.column("Categories in numbers", "Category") == [name]
    expect(opened.cells("Price levels in numbers", "Products")).to_have_text(
        [f"{products(truth, category_id=number, price_level=level):,}"]
    )


@pytest.mark.soak(proof="dashboards")
def test_a_click_on_a_category_filters_the_other_charts(stack: Stack, page: Page) -> None:
    truth, opened = stack.recomputed(), dashboard(page, CATALOG)
    cell = opened.chart("Categories in numbers").locator("tbody tr td").first
    cell.wait_for()
    name = cell.inner_text().strip()
    cell.click()
    shows(opened, "Products", products_named(truth, name))


@pytest.mark.soak(proof="dashboards")
def test_links_lead_to_the_products_of_a_category_and_price_level(stack: Stack, page: Page) -> None:
    truth = stack.recomputed()
    levels = {label(level): level for _, level, _ in truth.cube}
    for chart, row in (("Categories in numbers", 1), ("Price levels in numbers", 0), ("Price levels in numbers", 2)):
        opened = dashboard(page, CATALOG)
        shown = opened.chart(chart).locator("tbody tr").nth(row)
        shown.wait_for()
        name = shown.locator("td").first.inner_text().strip()
        shown.locator("a").click()
        page.wait_for_url(f"**/{PRODUCTS}/**")
        expected = products_named(truth, name) if chart.startswith("Categories") else products(truth, price_level=levels[name])
        shows(Dashboard(page), "Products found", expected)


def test_products_are_filtered_by_asin_and_price_and_listed(stack: Stack, page: Page) -> None:
    truth, opened = stack.recomputed(), dashboard(page, PRODUCTS)
    asin = next(asin for asin in sorted(truth.products)[3:] if truth.products[asin]["productURL"] and plain(truth.products[asin]["title"]))
    opened.choose("asin", asin)
    shows(opened, "Products found", 1)
    expect(opened.chart("Products one by one").locator("tbody tr")).to_have_count(1)
    assert opened.column("Products one by one", "ASIN") == [asin]
    assert opened.column("Products one by one", "Title") == [truth.products[asin]["title"]]
    link = opened.chart("Products one by one").locator("tbody a")
    assert link.get_attribute("href") == truth.products[asin]["productURL"]

    opened = dashboard(page, PRODUCTS)
    opened.between("price", 20, 40)
    shows(opened, "Products found", sum(20 <= one["price"] <= 40 for one in truth.products.values()))


@pytest.mark.soak(proof="dashboards")
def test_products_are_searched_by_title(stack: Stack, page: Page) -> None:
    """By its beginning, and by what stands within where a % is typed before."""
    truth, opened = stack.recomputed(), dashboard(page, PRODUCTS)
    titles = [truth.products[asin]["title"] for asin in sorted(truth.products)]
    search = opened.chart("Products one by one").locator("input[aria-label^=Search]")

    def found(sign: str, pattern: str) -> None:
        """Some part of a title, all of whose titles a page shows as they are."""
        for part in dict.fromkeys(part.upper() for title in titles for part in re.findall(pattern, title)):
            expected = [title for title in titles if (title.upper().startswith(part) if not sign else part in title.upper())]
            if len(expected) < len(titles) // 2 and all(map(plain, expected)):
                search.fill(sign + part)
                expect(opened.cells("Products one by one", "Title")).to_have_text(expected[:PAGE_ROWS])
                return
        raise AssertionError(f"no title has a part like {pattern}")

    found("", r"^[A-Za-z]+ [A-Za-z]+, [A-Za-z]{3,}")
    found("%", r"(?<= )[A-Za-z]+, [A-Za-z]{3,}")


@pytest.mark.soak(proof="dashboards")
def test_drilling_to_detail_shows_the_documents_of_a_number(stack: Stack, page: Page) -> None:
    truth, opened = stack.recomputed(), dashboard(page, PRODUCTS)
    number, name = a_category(truth)
    opened.choose("category", name)
    expected = products(truth, category_id=number)
    shows(opened, "Products found", expected)
    opened.chart("Products found").locator("button[aria-label='More Options']").click()
    page.get_by_text("Drill to detail", exact=True).first.click()
    drilled = page.locator("[role=dialog]")
    expect(drilled.get_by_text(re.compile(rf"^{expected} rows?$"))).to_be_visible()
    titles = {one["title"] for one in truth.products.values() if one["category_id"] == number}
    until(lambda: any(title in drilled.inner_text() for title in titles), "documents are shown", lambda: str(drilled.inner_text()))
    page.keyboard.press("Escape")


def _drill(page: Page, cell: Locator, by: str) -> None:
    """Through a cell's menu, which goes when the page refreshes itself while it is open."""
    for attempt in range(6):
        cell.click(button="right")
        page.get_by_text("Drill by", exact=True).last.hover()
        try:
            page.locator(".ant-popover, .ant-dropdown-menu-submenu-popup").get_by_text(by, exact=True).last.click(timeout=4_000)
            return
        except TimeoutError:
            assert attempt < 5, f"the menu has no {by}"
            page.keyboard.press("Escape")


@pytest.mark.soak(proof="dashboards")
def test_drilling_by_category_shows_its_price_levels(stack: Stack, page: Page) -> None:
    truth, opened = stack.recomputed(), dashboard(page, CATALOG)
    cell = opened.chart("Categories in numbers").locator("tbody tr td").first
    cell.wait_for()
    of = _named(truth, cell.inner_text().strip())
    _drill(page, cell, "Price level")
    drilled = page.locator("[role=dialog]").last
    drilled.locator("tbody tr").first.wait_for()
    shown = [[cell.inner_text().strip() for cell in row.locator("td").all()[:2]] for row in drilled.locator("tbody tr").all()]
    levels = {level for category, level, _ in truth.cube if category in of}
    expected = {label(level): sum(products(truth, category_id=number, price_level=level) for number in of) for level in levels}
    assert {(name, int(count)) for name, count in shown} <= set(expected.items())
    assert len(shown) == min(PAGE_ROWS, sum(count > 0 for count in expected.values()))
    page.keyboard.press("Escape")


@pytest.mark.soak(proof="dashboards")
def test_every_row_of_a_file_is_accounted_for(stack: Stack, page: Page) -> None:
    opened = dashboard(page, PIPELINE)
    found = [opened.column("Files", title) for title in ("File", "Rows", "Accepted", "Rejected")]
    assert len(found[0]) == len(found[1]) > 0
    for name, rows, accepted, rejected in zip(*found, strict=True):
        assert int(rows) == int(accepted) + int(rejected), name
    with connected() as database:
        (fresh,) = database.report_freshness.find()
        settled = database.quarantine.count_documents({"status": "discarded", "reason": {"$ne": "withdrawn"}})
    shows(opened, "In quarantine", len(stack.recomputed().rejections) - settled)
    shows(opened, "Drift", fresh["drift"])


@pytest.mark.soak(proof="dashboards")
def test_movement_between_the_first_and_the_last_day(stack: Stack) -> None:
    viewer = Pages("viewer")
    with connected() as database:
        cells = list(database.report_history.find())
    first, last = min(one["day"] for one in cells), max(one["day"] for one in cells)
    assert first < last
    for chart, name in (("Categories that moved most", "category_name"), ("Price levels that moved most", "label")):
        sums: dict[str, list[int]] = {}
        for one in cells:
            of = sums.setdefault(one[name], [0, 0])
            of[0] += one["products"] * (one["day"] == first)
            of[1] += one["products"] * (one["day"] == last)
        shown = {row[name]: [row["products_then"], row["products_now"], row["moved"]] for row in viewer.rows(chart)}
        assert shown == {of: [then, now, now - then] for of, (then, now) in sums.items() if then or now}, chart


@pytest.mark.soak(proof="dashboards")
def test_many_viewers_of_one_chart_cost_one_query(stack: Stack) -> None:
    viewer = Pages("viewer")
    chart = viewer.charts()["Products by price level"]

    def queries() -> int:
        """How many MongoDB has been asked while twelve looked at once, after what is kept had grown old."""
        time.sleep(stack.of.superset_live_seconds + 1)
        with connected() as database, ThreadPoolExecutor(12) as pool:
            database.drop_collection("system.profile")
            database.command("profile", 2)
            try:
                answers = list(pool.map(lambda _: viewer.get(f"/chart/{chart}/data/")["result"][0]["data"], range(12)))
            finally:
                database.command("profile", 0)
            assert answers.count(answers[0]) == 12
            asked = database["system.profile"].count_documents({"command.aggregate": "report_cube"})
            database.drop_collection("system.profile")
            return asked

    # A machine that is too busy to begin all of them while the answer is fresh may ask once more.
    until(lambda: queries() == 1, "twelve viewers cost one query")


@pytest.mark.soak(proof="dashboards")
def test_an_answer_over_the_history_is_cached_until_the_history_changes(stack: Stack) -> None:
    viewer = Pages("viewer")
    chart = viewer.charts()["Categories that moved most"]

    def answer() -> tuple[bool, set[str]]:
        found = viewer.get(f"/chart/{chart}/data/")["result"][0]
        return bool(found["is_cached"]), {row["category_name"] for row in found["data"]}

    number, name = a_category(stack.recomputed())
    until(lambda: answer()[0], "the answer is kept")
    assert name in answer()[1]
    renamed = f"{name}, renamed"
    try:
        post(stack, "/Category", {"id": number, "category_name": renamed})
        until(lambda: renamed in answer()[1], "the category has its new name")
        assert name not in answer()[1]
    finally:
        post(stack, "/Category", {"id": number, "category_name": name})
    until(lambda: name in answer()[1], "the category has its old name again")


def test_an_open_page_shows_posted_records(stack: Stack, page: Page) -> None:
    opened = dashboard(page, CATALOG)
    before = products(stack.recomputed())
    shows(opened, "Products", before)
    post(
        stack,
        "/AmazonProduct",
        {
            **{"asin": "B0VIEWED01", "title": "A lamp", "imgUrl": None, "productURL": None, "stars": 4, "reviews": 1, "price": 12.5},
            **{"listPrice": 0, "category_id": 1, "isBestSeller": False, "boughtInLastMonth": 0, "date": datetime.now(UTC).isoformat()},
        },
    )
    shows(opened, "Products", before + 1)


def post(stack: Stack, path: str, record: dict[str, Any]) -> None:
    answer = httpx.post(f"{stack.of.api_url}{path}", json=record, timeout=60)
    assert answer.status_code == 201, answer.text


def _named(of: Recomputed, name: str) -> set[int]:
    return {number for number, found in of.categories.items() if found == name}
