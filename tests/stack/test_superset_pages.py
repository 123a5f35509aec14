"""Superset as its accounts meet it: the numbers of the reports, what a viewer may not do, what a person has changed."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest
from support.pages import Pages
from support.stacks import Stack, until

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.timeout(1800)]


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


def test_wrong_passwords_are_refused_after_some(stack: Stack) -> None:
    """Those of one account and address; others may still log in. Each of Superset's processes counts for itself."""
    with httpx.Client(base_url=stack.of.superset_url, timeout=60) as client:
        token = re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', client.get("/login/").text)[0]

        def tries_until_refused(path: str, *, form: bool, **more: str) -> int:
            for number in range(200):
                login = {"username": "somebody", "password": str(number), **more}
                if client.post(path, **{"data" if form else "json": login}).status_code == httpx.codes.TOO_MANY_REQUESTS:
                    return number
            raise AssertionError("all were answered")

        assert tries_until_refused("/login/", form=True, csrf_token=token) >= 10
        assert tries_until_refused("/api/v1/security/login", form=False, provider="db") >= 10
    Pages("viewer")


def test_a_chart_must_not_contain_a_template(stack: Stack) -> None:
    """Which could take all memory: anybody who may look at a chart can send one like it."""
    viewer = Pages("viewer")
    chart = viewer.get(f"/chart/{viewer.charts()['Products']}")["result"]
    asked = json.loads(chart["query_context"])

    def answered(where: str) -> dict[str, Any]:
        asked["queries"][0]["extras"] = {"where": where}
        return viewer.answer("POST", "/chart/data", asked)

    assert answered("(products > 0)")["result"][0]["status"] == "success"
    wrong = answered("(products > {{ 9 - 9 }})")
    assert "a chart must not contain a template" in json.dumps(wrong), wrong


def test_changes_made_in_superset_are_kept(stack: Stack) -> None:
    assert stack.local("dashboards", "import").strip() == "nothing to import"
    assert stack.local("dashboards", "export") == "", "the files are as Superset writes them"
    admin = Pages("admin")
    chart = admin.charts()["Products"]
    assert admin.status_of("PUT", f"/chart/{chart}", {"description": "how many there are"}) == 200
    assert "kept, because it was changed in Superset: chart Products\n" in stack.local("dashboards", "import")
    assert admin.get(f"/chart/{chart}")["result"]["description"] == "how many there are"
    assert "imported: chart Products\n" in stack.local("dashboards", "import", "--overwrite")
    assert admin.get(f"/chart/{chart}")["result"]["description"] is None


def test_superset_logs_user_actions_and_no_chart_answers(stack: Stack) -> None:
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
