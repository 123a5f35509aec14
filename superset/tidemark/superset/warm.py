"""`python -m tidemark.superset.warm`: warms the cache of dashboard Trends whenever the history has changed.

Runs until it is stopped, and touches the file `checked` in SUPERSET_HOME after each check. Environment: SUPERSET_URL,
SUPERSET_VIEWER_PASSWORD, SUPERSET_MONGODB_URL, SUPERSET_MONGODB_DATABASE, SUPERSET_HOME.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import requests
from pymongo.errors import PyMongoError

from tidemark.superset import history_version
from tidemark.superset.client import Client, SupersetError

DASHBOARD = "tidemark-trends"
CHECK_SECONDS = 10.0


def warm(superset: Client) -> int:
    """Queries all charts and returns their number."""
    charts = superset.get(f"/dashboard/{DASHBOARD}/charts").json()["result"]
    for chart in charts:
        superset.get(f"/chart/{chart['id']}/data/")
    return len(charts)


def main() -> None:
    known, checked = "", Path(os.environ["SUPERSET_HOME"]) / "checked"
    while True:
        try:
            found = history_version.version()
            if found != known:
                charts = warm(Client(os.environ["SUPERSET_URL"], "viewer", os.environ["SUPERSET_VIEWER_PASSWORD"]))
                sys.stdout.write(f"history {found}: charts queried: {charts}\n")
                known = found
        except (SupersetError, requests.RequestException, PyMongoError) as error:
            sys.stdout.write(f"{error}\n")  # the first viewer will query the charts
        checked.touch()
        time.sleep(CHECK_SECONDS)


if __name__ == "__main__":
    main()
