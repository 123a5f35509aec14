"""A real Superset for the tests: its home folder, its web server, and a client that is logged in."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from pipe_server import free_port

_START_SECONDS = 180
_ANSWER_SECONDS = 600
_ADMIN = "admin"


class Superset:
    """Superset's HTTP API. A failed request raises an error with Superset's answer. `process` is the leader of Superset's processes."""

    def __init__(self, url: str, password: str, process: int) -> None:
        self.url, self.process = url, process
        self._http = requests.Session()
        self._http.post(f"{url}/login/", data={"username": _ADMIN, "password": password}, timeout=_ANSWER_SECONDS).raise_for_status()

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        return self._answer(self._http.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=_ANSWER_SECONDS))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer(self._http.post(f"{self.url}/api/v1/{path}", json=body, timeout=_ANSWER_SECONDS))

    def chart(self, dataset: int, query: Mapping[str, Any], **form_data: Any) -> dict[str, Any]:
        """Returns the answer to a chart's query, requested as the browser does."""
        body = {
            "datasource": {"id": dataset, "type": "table"},
            "force": True,
            "queries": [{"row_limit": 10_000, **query}],
            "form_data": {"datasource": f"{dataset}__table", **form_data},
            "result_format": "json",
            "result_type": "full",
        }
        found: dict[str, Any]
        (found,) = self.post("chart/data", body)["result"]
        if found.get("error"):
            raise AssertionError(f"{found['error']}\n{found.get('query')}")
        return found

    def samples(self, dataset: int, rows: int, filters: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Returns unaggregated rows, as drilling to detail does."""
        parameters: dict[str, str | int] = {"datasource_type": "table", "datasource_id": dataset, "per_page": rows, "page": 1}
        path = f"{self.url}/datasource/samples"
        found: dict[str, Any] = self._answer(
            self._http.post(path, params=parameters, json={"filters": [*filters]}, timeout=_ANSWER_SECONDS)
        )["result"]
        return found

    def sql(self, database: int, text: str, **more: Any) -> dict[str, Any]:
        """Returns the answer of SQL Lab."""
        return self.post("sqllab/execute/", {"database_id": database, "sql": text, "runAsync": False, "queryLimit": 1_000, **more})

    def add_database(self, url: str) -> int:
        return int(self.post("database/", {"database_name": f"mongo {secrets.token_hex(4)}", "sqlalchemy_uri": url})["id"])

    def add_dataset(self, database: int, table: str, sql: str | None = None) -> int:
        more = {"sql": sql} if sql else {}
        return int(self.post("dataset/", {"database": database, "table_name": table, **more})["id"])

    @staticmethod
    def _answer(answer: requests.Response) -> dict[str, Any]:
        if not answer.ok:
            raise AssertionError(f"{answer.status_code} {answer.url}: {answer.text[:2_000]}")
        found: dict[str, Any] = answer.json()
        return found


@contextmanager
def superset(home: Path) -> Iterator[Superset]:
    """Starts Superset in an empty folder, and stops it at the end."""
    port = free_port()
    password = secrets.token_urlsafe(12)
    configuration = home / "superset_config.py"
    configuration.write_text(
        f"SECRET_KEY = {secrets.token_urlsafe(42)!r}\n"
        f"SQLALCHEMY_DATABASE_URI = 'sqlite:///{home}/superset.db?timeout=60'\n"
        "FEATURE_FLAGS = {'ESTIMATE_QUERY_COST': True, 'DRILL_BY': True, 'DRILL_TO_DETAIL': True}\n"
        "TALISMAN_ENABLED = False\n"
        "WTF_CSRF_ENABLED = False\n"
    )
    environment = {
        **os.environ,
        "SUPERSET_CONFIG_PATH": str(configuration),
        "SUPERSET_HOME": str(home),
        "FLASK_APP": "superset.app:create_app()",
    }
    program = str(Path(sys.executable).with_name("superset"))
    administrator = ("--username", _ADMIN, "--firstname", "A", "--lastname", "A", "--email", "a@example.com", "--password", password)
    log = home / "log"
    with log.open("ab") as output:
        for words in (("db", "upgrade"), ("fab", "create-admin", *administrator), ("init",)):
            if subprocess.run([program, *words], env=environment, stdout=output, stderr=output, check=False).returncode:
                raise AssertionError(f"superset {words[0]} failed:\n{log.read_text()[-5_000:]}")
        command = [str(Path(sys.executable).with_name("gunicorn")), "--worker-class", "gthread", "--threads", "16", "--timeout", "600"]
        command += ["--bind", f"127.0.0.1:{port}", "superset.app:create_app()"]
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, server, log)
            yield Superset(url, password, server.pid)
        finally:
            server.terminate()
            server.wait(60)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            if requests.get(f"{url}/health", timeout=5).ok:
                return
        except requests.RequestException:  # Superset is still starting
            pass
        if server.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"Superset does not answer; its log ends with:\n{log.read_text()[-5_000:]}")
        time.sleep(0.3)
