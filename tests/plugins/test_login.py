"""The plugin is behind Airflow's login, reads only, and answers also where MongoDB does not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import airflow_home, hooks, plugin_answers
from support.servers import free_ports
from support.wording import Wording

from tidemark.settings import CHECKOUT

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def away() -> str:
    """Where no MongoDB runs."""
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.fixture(scope="module")
def answers(away: str) -> Any:
    """Of an Airflow beside which no MongoDB runs."""
    airflow_home.make_database()
    return hooks.run_with_airflow(str(Path(plugin_answers.__file__)), TIDEMARK_MONGODB_URL=f"mongodb://{away}")


def test_the_plugin_is_loaded(answers: Any) -> None:
    assert answers["errors"] == {}


def test_without_a_login_nothing_is_shown(answers: Any) -> None:
    assert {path: status for path, status in answers["strangers"].items() if status not in (401, 404)} == {}
    assert answers["strangers"]["state"] == answers["strangers"]["page/control_room.js"] == 401


def test_a_user_who_may_view_airflow_sees_only_the_page(answers: Any) -> None:
    assert {path for path, status in answers["known"].items() if status == 200} == {"page/control_room.js"}
    assert answers["kind"].startswith(("text/javascript", "application/javascript"))
    assert answers["writes"] == [405]


def test_other_host_names_and_frames_of_other_sites_are_refused(answers: Any) -> None:
    assert answers["rebound"] == {"/": 400, "/api/v2/version": 400}
    assert answers["framing"] == {"x-frame-options": "SAMEORIGIN", "content-security-policy": "frame-ancestors 'self'"}


def test_an_unreachable_mongodb_is_reported(answers: Any, away: str, wording: Wording) -> None:
    assert answers["known"]["state"] == 503
    assert answers["state"]["state"] is None
    wording.check(answers["state"]["problem"], mongodb=away)
    assert answers["state"]["superset"].startswith("http://")


def test_the_page_links_to_existing_dashboards() -> None:
    files = (CHECKOUT / "superset" / "assets" / "dashboards").glob("*.yaml")
    there = {(of["slug"], of["dashboard_title"]) for of in (yaml.safe_load(one.read_text()) for one in files)}
    page = (CHECKOUT / "plugins" / "tidemark" / "plugins" / "page" / "cards.js").read_text()
    titles = dict(re.findall(r'\[?(PIPELINE|"tidemark-[a-z]+")\]?: "(\w+)"', page))
    assert {(slug.strip('"').replace("PIPELINE", "tidemark-pipeline"), title) for slug, title in titles.items()} == there
