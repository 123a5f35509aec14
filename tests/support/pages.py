"""Superset's API as one of its accounts uses it."""

from __future__ import annotations

from typing import Any

from tidemark.local import loopback
from tidemark.local.accounts import superset_passwords
from tidemark.settings import settings

Rows = list[dict[str, Any]]


class Pages:
    def __init__(self, account: str) -> None:
        self._http = loopback.client(f"{settings().superset_url}/api/v1", timeout=120)
        login = {"username": account, "password": superset_passwords(settings())[account], "provider": "db"}
        token = self._http.post("/security/login", json=login).raise_for_status().json()["access_token"]
        self._http.headers.update({"Authorization": f"Bearer {token}", "Referer": settings().superset_url})
        self._http.headers["X-CSRFToken"] = self.get("/security/csrf_token/")["result"]

    def get(self, path: str) -> Any:
        return self._http.get(path).raise_for_status().json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._http.post(path, json=body).raise_for_status().json()

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """An answer, good or not."""
        return self._http.request(method, path, json=body).json()

    def status_of(self, method: str, path: str, body: dict[str, Any]) -> int:
        return self._http.request(method, path, json=body).status_code

    def charts(self) -> dict[str, int]:
        """Ids of all charts by name."""
        return {one["slice_name"]: one["id"] for one in self.get("/chart/?q=(page_size:100)")["result"]}

    def charts_of(self, dashboard: str) -> list[str]:
        """The names of a dashboard's charts."""
        return [one["slice_name"] for one in self.get(f"/dashboard/{dashboard}/charts")["result"]]

    def dashboards(self) -> dict[str, int]:
        return {one["dashboard_title"]: one["id"] for one in self.get("/dashboard/?q=(page_size:100)")["result"]}

    def rows(self, chart: str) -> Rows:
        """What a chart shows, without Superset's cache."""
        (found,) = self.get(f"/chart/{self.charts()[chart]}/data/?force=true")["result"]
        assert not found.get("error"), found["error"]
        rows: Rows = found["data"]
        return rows
