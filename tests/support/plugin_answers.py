"""What Airflow's API server answers under the plugin's paths: `python plugin_answers.py` prints it as JSON, a process of its own.

It is guarded as the local stack's is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

USER, PASSWORD = "ana", "secret"
PATHS = ("state", "page/control_room.js", "page/nothing.js", "page/..%2fcontrol_room.py", "openapi.json", "docs")


def main() -> None:
    passwords = Path(os.environ["AIRFLOW_HOME"]) / "passwords.json"
    passwords.write_text(json.dumps({USER: PASSWORD}))
    os.environ |= {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "TIDEMARK_GUARD_AIRFLOW": "true",
        "TIDEMARK_TRUSTED_HOSTS": "testserver",
    }
    from airflow import plugins_manager
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    with TestClient(create_app(apps="core")) as client:
        strangers: dict[str, Any] = {path: client.get(f"/tidemark/{path}").status_code for path in PATHS}
        token = client.post("/auth/token", json={"username": USER, "password": PASSWORD}).raise_for_status().json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        known = {path: client.get(f"/tidemark/{path}").status_code for path in PATHS}
        writes = {client.request(method, "/tidemark/state").status_code for method in ("POST", "PUT", "PATCH", "DELETE")}
        found = {"strangers": strangers, "known": known, "writes": sorted(writes), "state": client.get("/tidemark/state").json()}
        kind = client.get("/tidemark/page/control_room.js").headers["content-type"]
        found["rebound"] = {path: client.get(path, headers={"Host": "shop.example"}).status_code for path in ("/", "/api/v2/version")}
        found["framing"] = {name: client.get("/").headers.get(name) for name in ("x-frame-options", "content-security-policy")}
    print(json.dumps({**found, "kind": kind, "errors": plugins_manager._get_plugins()[1]}))  # noqa: T201


if __name__ == "__main__":
    main()
