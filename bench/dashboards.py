"""How long Superset takes to show the dashboards over a full-size catalog: `python -m bench.dashboards`. Prints one line of JSON.

A whole stack of its own serves a generated catalog, as `make run` brings it. `catalog` are all charts of dashboard Catalog, and
`explorer` the table of dashboard Products with filters of category and price, each asked through Superset's API without its cache, one
after the other; they are held against limits for the 95th of a hundred. `browser` is from the first painted pixel of dashboard Catalog
to the first frame that shows something of each chart, as the page itself sees it, in Chromium; a round of it is a new browser. `post` is
from a post to the API to its number in an open page that nobody touches.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from playwright.sync_api import expect
from support.browser import CHART, MARKS, dashboard, open_browser
from support.pages import Pages
from support.stacks import Stack, prepared_stack

from bench.sides import against_limit, p95, print_line, query_seconds, report
from tidemark.local import loopback
from tidemark.serving.database import connect, database_of
from tidemark.settings import Settings, settings

CATALOG = "tidemark-catalog"
# CachedStatus at each frame for charts with a number, a row of a table or a canvas that is not blank: milliseconds by chart.
WATCH = """
    window.drawn = {};
    const small = new OffscreenCanvas(32, 32).getContext("2d", {willReadFrequently: true});
    const seen = mark => {
        if (!(mark instanceof HTMLCanvasElement)) return true;
        if (!mark.width || !mark.height) return false;
        small.clearRect(0, 0, 32, 32);
        small.drawImage(mark, 0, 0, 32, 32);
        return small.getImageData(0, 0, 32, 32).data.some(part => part > 0);
    };
    const look = () => {
        for (const chart of document.querySelectorAll("CHART")) {
            const name = chart.dataset.testChartName;
            if (!(name in window.drawn) && [...chart.querySelectorAll("MARKS")].some(seen)) window.drawn[name] = performance.now();
        }
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
""".replace("CHART", CHART).replace("MARKS", MARKS)
WARMING = 3  # questions that bring all into memory
CHART_SECONDS, TABLE_SECONDS, BROWSER_SECONDS, POST_SECONDS = 0.3, 1.0, 4.0, 10.0


def serve(made: Stack, rows: int, batch: str) -> None:
    made.settings["mongodb_cache_gb"] = os.environ["TIDEMARK_MONGODB_CACHE_GB"] = "2.0"
    with made.command("run", "--rows", str(rows), "--days", "1", "--batch", batch, PYTHONUNBUFFERED="1") as running:
        assert running.stdout is not None
        for line in running.stdout:
            print_line(line.rstrip())
    if running.returncode:
        raise RuntimeError("the catalog has not been served")


def explorer(viewer: Pages, of: Settings) -> dict[str, Any]:
    """The table's queries as the page asks them, with a category and a range of prices chosen."""
    with connect(of.mongodb) as client:
        (largest,) = database_of(client, of.database).report_category.find().sort("products", -1).limit(1)
    chart = viewer.get(f"/chart/{viewer.charts()['Products one by one']}")["result"]
    context = json.loads(chart["query_context"])
    named = {"col": "category_name", "op": "IN", "val": [largest["category_name"]]}
    prices = [{"col": "price", "op": ">=", "val": 10}, {"col": "price", "op": "<=", "val": 30}]
    queries = [{**query, "filters": [named, *prices]} for query in context["queries"]]
    return {**context, "queries": queries, "force": True}


def first_paint_to_last_chart(charts: int) -> float:
    with open_browser("viewer") as page:
        page.add_init_script(WATCH)
        opened = dashboard(page, CATALOG)
        page.wait_for_function("charts => Object.keys(window.drawn).length === charts", arg=charts)
        drawn = page.evaluate("Math.max(...Object.values(window.drawn))")
        painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        for name in opened.charts():
            opened.wait_until_drawn(name)  # and shows no error
        return float(drawn - painted) / 1000


def post_to_page(rounds: int, api_url: str) -> list[float]:
    """Seconds of each of so many posts of new products."""
    found = []
    with open_browser("viewer") as page, loopback.client(api_url, timeout=60) as api:
        number = dashboard(page, CATALOG).number("Products")
        number.wait_for()
        for one in range(rounds):
            before = int(number.inner_text().replace(",", ""))
            product = {"asin": f"B0BENCH{one:03}", "title": "A lamp", "stars": 4, "reviews": 1, "price": 12.5, "listPrice": 0}
            more = {"category_id": 1, "isBestSeller": False, "boughtInLastMonth": 0, "date": datetime.now(UTC).isoformat()}
            started = time.perf_counter()
            api.post("/AmazonProduct", json=product | more).raise_for_status()
            expect(number).to_have_text(f"{before + 1:,}")
            found.append(time.perf_counter() - started)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.dashboards")
    parser.add_argument("--rows", type=int, default=1_426_337)
    parser.add_argument("--times", type=int, default=50, help="questions of each chart")
    parser.add_argument("--rounds", type=int, default=5, help="pages opened")
    parser.add_argument("--batch", choices=["yes", "no"], default="yes", help="a nightly run and the history before")
    given = parser.parse_args()
    with prepared_stack() as made:
        serve(made, given.rows, given.batch)
        of, viewer = settings(), Pages("viewer")
        comparisons: dict[str, dict[str, Any]] = {}
        filtered, charts, shown = explorer(viewer, of), viewer.charts(), viewer.charts_of(CATALOG)
        asking: dict[str, tuple[Callable[[], object], float]] = {
            name: (partial(viewer.get, f"/chart/{charts[name]}/data/?force=true"), CHART_SECONDS) for name in shown
        }
        asking["explorer"] = partial(viewer.post, "/chart/data", filtered), TABLE_SECONDS
        for name, (query, limit) in asking.items():
            query_seconds(query, WARMING)
            seconds = query_seconds(query, given.times)
            comparisons[f"{name} p95"] = against_limit(limit, [p95(seconds)])
            print_line(f"{name}: median {statistics.median(seconds):.3f} s, p95 {p95(seconds):.3f} s")
        pages = [first_paint_to_last_chart(len(shown)) for _ in range(given.rounds)]
        comparisons["first paint to last chart"] = against_limit(BROWSER_SECONDS, pages)
        comparisons["post to page"] = against_limit(POST_SECONDS, post_to_page(given.rounds, of.api_url))
    report("dashboards", "s", comparisons, reach=dict.fromkeys(comparisons, 1), rows=given.rows)


if __name__ == "__main__":
    main()
