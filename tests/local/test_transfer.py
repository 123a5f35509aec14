"""Dashboards as files: whose change wins, and what a file says of a Superset."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from support.wording import Wording

from tidemark.superset import transfer


class Pretended:
    """A Superset that keeps what it is told, with a number of its own on every chart."""

    def __init__(self) -> None:
        self.there: dict[str, Any] = {}

    def assets(self) -> dict[str, Any]:
        return dict(self.there)

    def import_assets(self, assets: Iterable[Any]) -> None:
        for asset in assets:
            params = {**asset.content["params"], "datasource": "7__table"}
            self.there[asset.uuid] = asset._replace(content={**asset.content, "params": params})

    def change(self, uuid: str, **fields: str) -> None:
        asset = self.there[uuid]
        self.there[uuid] = asset._replace(content={**asset.content, **fields})


def chart(uuid: str, **fields: object) -> Any:
    return transfer.Asset(f"charts/{uuid}.yaml", {"uuid": uuid, "slice_name": uuid, "params": {}, "query_context": None, **fields})


@pytest.fixture
def lines(tmp_path: Path) -> Any:
    there = Pretended()

    def import_assets(*files: Any, overwrite: bool = False) -> str:
        memory = transfer.Memory(tmp_path / "imported.json")
        return "\n".join(transfer.import_assets(there, memory, {one.uuid: one for one in files}, overwrite=overwrite))

    import_assets.superset = there  # type: ignore[attr-defined]
    return import_assets


def test_changes_in_the_files_are_imported(lines: Any, wording: Wording) -> None:
    wording.check(lines(chart("a"), chart("b")), "first")
    wording.check(lines(chart("a"), chart("b")), "again")
    wording.check(lines(chart("a"), chart("b", description="new")), "one has changed")
    assert lines.superset.there["b"].content["description"] == "new"
    del lines.superset.there["a"]
    wording.check(lines(chart("a"), chart("b", description="new")), "one has been deleted")
    assert lines.superset.there.keys() == {"a", "b"}


def test_changes_made_in_superset_are_kept_unless_overwritten(lines: Any, wording: Wording) -> None:
    lines(chart("a"), chart("b"))
    lines.superset.change("a", description="mine")
    wording.check(lines(chart("a"), chart("b")), "nothing new")
    wording.check(lines(chart("a", description="ours"), chart("b", description="new")), "both new")
    assert lines.superset.there["a"].content["description"] == "mine"
    assert lines.superset.there["b"].content["description"] == "new"
    wording.check(lines(chart("a", description="ours"), chart("b", description="new"), overwrite=True), "overwritten")
    assert lines.superset.there["a"].content["description"] == "ours"


def test_an_asset_equal_to_its_file_counts_as_unchanged(lines: Any, wording: Wording) -> None:
    lines(chart("a"))
    lines.superset.change("a", description="exported since")
    wording.check(lines(chart("a", description="exported since")))


def test_a_changed_mongodb_address_is_imported(lines: Any, wording: Wording) -> None:
    def database(url: str) -> Any:
        return transfer.Asset("databases/Tidemark.yaml", {"uuid": "d", "database_name": "Tidemark", "params": {}, "sqlalchemy_uri": url})

    wording.check(lines(database("mongopipe://a/x")), "first")
    lines.superset.change("d", sqlalchemy_uri="mongopipe://hidden")
    wording.check(lines(database("mongopipe://a/x")), "hidden")
    wording.check(lines(database("mongopipe://b/x")), "another")
    assert lines.superset.there["d"].content["sqlalchemy_uri"] == "mongopipe://b/x"


def test_a_dashboard_file_contains_no_installation_specific_ids() -> None:
    def dashboard(*numbers: int) -> dict[str, Any]:
        first, second = numbers
        return {
            "dashboard_title": "Catalog",
            "position": {
                "VERSION": "v2",
                "CHART-1": {"type": "CHART", "meta": {"uuid": "b", "chartId": first}},
                "CHART-2": {"type": "CHART", "meta": {"uuid": "a", "chartId": second}},
            },
            "metadata": {
                "native_filter_configuration": [{"id": "NATIVE_FILTER-x", "scope": {"excluded": [first, 99]}}],
                "chart_configuration": {str(first): {"id": first, "crossFilters": {"chartsInScope": [second]}}},
                "shared_label_colors": [str(first)],
            },
        }

    assert transfer.portable(dashboard(12, 3)) == transfer.portable(dashboard(5, 8))
    found = transfer.portable(dashboard(12, 3))
    assert [found["position"][name]["meta"]["chartId"] for name in ("CHART-1", "CHART-2")] == [2, 1]
    assert found["metadata"] == {
        "native_filter_configuration": [{"id": "NATIVE_FILTER-x", "scope": {"excluded": [2]}}],
        "chart_configuration": {"2": {"id": 2, "crossFilters": {"chartsInScope": [1]}}},
    }


def test_the_order_of_a_dataset_file_is_ignored_and_kept() -> None:
    def dataset(*columns: str) -> dict[str, Any]:
        return {"table_name": "product", "columns": [{"column_name": name} for name in columns], "metrics": [{"metric_name": "count"}]}

    def digest(*columns: str) -> str:
        return str(transfer.Asset("datasets/product.yaml", dataset(*columns)).digest())

    assert digest("title", "asin") == digest("asin", "title") != digest("asin")
    ordered = transfer.in_order(dataset("a", "asin", "b", "title"), dataset("title", "gone", "asin"))
    assert [one["column_name"] for one in ordered["columns"]] == ["title", "asin", "a", "b"]


@pytest.mark.parametrize(
    ("mongodb", "connector"),
    [
        ("mongodb://127.0.0.1:27017/?replicaSet=tidemark", "mongopipe://127.0.0.1:27017/shop?replicaSet=tidemark&max_time_ms=5000"),
        ("mongodb://a:1,b:2", "mongopipe://a:1,b:2/shop?max_time_ms=5000"),
        ("mongodb+srv://me:secret@cluster.example/", "mongopipe+srv://me:secret@cluster.example/shop?max_time_ms=5000"),
    ],
)
def test_connector_urls_of_mongodb(mongodb: str, connector: str) -> None:
    assert transfer.mongopipe_url(mongodb, "shop", 5) == connector
