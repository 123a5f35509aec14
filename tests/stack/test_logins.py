"""Logins to Airflow and Superset by an identity provider: what each role may do there, and who is refused.

The servers are others than the stack's, on copies of its databases.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from support.browser import open_page
from support.identity import ADMINS, OPERATORS, VIEWERS, Browser, Provider, running_provider
from support.logins import REFUSED, Server, running_servers
from support.names import NAMES
from support.stacks import Stack
from support.wording import Wording

from tidemark.local.programs import (
    airflow_environment,
    base_environment,
    superset_environment,
    superset_module,
)
from tidemark.local.runs import Airflow
from tidemark.settings import Settings
from tidemark.settings.airflow_names import Dag

pytestmark = [pytest.mark.servers, pytest.mark.airflow]

INGEST = NAMES.of(Dag.INGEST)
GROUPS = {"Admin": ADMINS, "Operator": OPERATORS, "Viewer": VIEWERS}


@dataclass
class Logins:
    provider: Provider
    servers: dict[str, Server]
    of: Settings


@pytest.fixture(scope="module")
def logins(started: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logins]:
    with running_provider() as provider, running_servers(started, tmp_path_factory.mktemp("logins") / "home", provider.client) as servers:
        yield Logins(provider, servers, Settings())


@pytest.fixture(params=["airflow", "superset"])
def server(request: pytest.FixtureRequest, logins: Logins) -> Server:
    return logins.servers[request.param]


def log_in(provider: Provider, server: Server, person: str, *groups: str) -> tuple[Browser, httpx.Response]:
    """The browser of a person who has logged in, or tried to, and the page that it came to."""
    provider.knows(person, *groups)
    browser = Browser()
    return browser, browser.log_in(server.link, person)


def test_roles_in_airflow(logins: Logins) -> None:
    """Operators can run everything and answer questions; they cannot read or change connections, variables, pools and accounts."""
    run = {"dag_run_id": "by-{}", "logical_date": None, "conf": {}, "partition_key": "2020-01-01"}
    clear = {"dry_run": True, "only_failed": False, "dag_run_id": "none"}
    hitl = f"/api/v2/dags/{INGEST}/dagRuns/none/taskInstances/approve/-1/hitlDetails"
    backfill = {"dag_id": INGEST, "from_date": "2020-01-01T00:00:00Z", "to_date": "2020-01-01T00:00:00Z", "dag_run_conf": {}}
    tries: dict[str, tuple[str, str, Any]] = {
        "read runs": ("GET", f"/api/v2/dags/{INGEST}/dagRuns", None),
        "read the operations page": ("GET", "/tidemark/state", None),
        "load the operations page": ("GET", "/tidemark/page/control_room.js", None),
        "trigger": ("POST", f"/api/v2/dags/{INGEST}/dagRuns", run),
        "backfill": ("POST", "/api/v2/backfills/dry_run", backfill),
        "pause": ("PATCH", f"/api/v2/dags/{INGEST}", {"is_paused": False}),
        "clear": ("POST", f"/api/v2/dags/{INGEST}/clearTaskInstances", clear),
        "answer": ("PATCH", hitl, {"chosen_options": ["Approve"]}),
        "read connections": ("GET", "/api/v2/connections", None),
        "create a connection": ("POST", "/api/v2/connections", {"connection_id": "by-{}", "conn_type": "http"}),
        "read variables": ("GET", "/api/v2/variables", None),
        "create a pool": ("POST", "/api/v2/pools", {"name": "by-{}", "slots": 1}),
        "read accounts": ("GET", "/auth/fab/v1/users", None),
    }
    airflow, may = logins.servers["airflow"], {}
    for role, group in GROUPS.items():
        browser, _ = log_in(logins.provider, airflow, role.lower(), group)
        assert airflow.name_of(browser) == f"sso:{role.lower()}"
        answers = {}
        for what, (method, path, body) in tries.items():
            mine = {name: value.format(role) if isinstance(value, str) else value for name, value in body.items()} if body else None
            answers[what] = browser.request(method, f"{airflow.url}{path}", json=mine).status_code
        assert {code for code in answers.values() if code >= 400} <= {403, 404, 422}, answers
        may[role] = {what for what, code in answers.items() if code not in REFUSED}
    reading = {"read runs", "read the operations page", "load the operations page"}
    assert may["Viewer"] == reading
    assert may["Operator"] == reading | {"trigger", "backfill", "pause", "clear", "answer"}
    assert may["Admin"] == set(tries)


def test_roles_in_superset(logins: Logins) -> None:
    """Operators make charts and dashboards of their own; they change nobody else's, and have no SQL Lab."""
    superset, may = logins.servers["superset"], {}
    for role, group in GROUPS.items():
        browser, _ = log_in(logins.provider, superset, role.lower(), group)
        assert superset.name_of(browser) == f"sso:{role.lower()}"
        at = f"{superset.url}/api/v1"
        token = browser.get(f"{at}/security/csrf_token/").json()["result"]
        browser.headers.update({"Referer": superset.url, "X-CSRFToken": token})
        charts = browser.get(f"{at}/chart/?q=(page_size:100)").json()["result"]
        chart = next(one for one in charts if one["slice_name"] == "Products")
        mine = {"slice_name": f"by {role}", "viz_type": "table", "datasource_id": 1, "datasource_type": "table"}
        tries: dict[str, tuple[str, str, Any]] = {
            "see dashboards": ("GET", "/dashboard/tidemark-catalog/charts", None),
            "see a chart": ("GET", f"/chart/{chart['id']}/data/", None),
            "create a chart": ("POST", "/chart/", mine),
            "create a dashboard": ("POST", "/dashboard/", {"dashboard_title": f"by {role}"}),
            "change a shipped chart": ("PUT", f"/chart/{chart['id']}", {"description": "mine"}),
            "create a dataset": ("POST", "/dataset/", {"database": 1, "table_name": "product"}),
            "use SQL Lab": ("POST", "/sqllab/execute/", {"database_id": 1, "sql": "SELECT 1"}),
            "see accounts": ("GET", "/security/users/", None),
            "change the database": ("PUT", "/database/1", {"expose_in_sqllab": True}),
        }
        answers = {what: browser.request(method, f"{at}{path}", json=body).status_code for what, (method, path, body) in tries.items()}
        may[role] = {what for what, code in answers.items() if code not in {*REFUSED, 404}}
    seeing = {"see dashboards", "see a chart"}
    assert may["Viewer"] == seeing
    assert may["Operator"] == seeing | {"create a chart", "create a dashboard"}
    assert may["Admin"] == set(tries)


def test_somebody_in_no_group_is_refused(logins: Logins, server: Server, wording: Wording) -> None:
    browser, page = log_in(logins.provider, server, "stranger", "guests")
    assert page.status_code == httpx.codes.FORBIDDEN
    wording.check(page.text)
    assert server.name_of(browser) is None


def test_roles_follow_the_groups_at_each_login(logins: Logins, server: Server) -> None:
    """Whoever is in no group any more loses what they had, in former sessions too."""
    former, _ = log_in(logins.provider, server, "mover", ADMINS)
    administers = {"airflow": "/api/v2/connections", "superset": "/api/v1/security/users/"}
    (path,) = (one for name, one in administers.items() if logins.servers[name] is server)
    assert former.get(f"{server.url}{path}").status_code == httpx.codes.OK
    now, _ = log_in(logins.provider, server, "mover", VIEWERS)
    assert server.name_of(now) == "sso:mover"
    assert now.get(f"{server.url}{path}").status_code == httpx.codes.FORBIDDEN
    _, refusal = log_in(logins.provider, server, "mover")
    assert refusal.status_code == httpx.codes.FORBIDDEN
    reads = {
        "/api/v2/connections": f"/api/v2/dags/{INGEST}/dagRuns",
        "/api/v1/security/users/": "/api/v1/dashboard/tidemark-catalog/charts",
    }
    assert now.get(f"{server.url}{reads[path]}").status_code == httpx.codes.FORBIDDEN


def test_a_wrong_client_secret_is_refused(logins: Logins, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins.provider, "takes_secret_for_wrong", True)
    issued = logins.provider.issued
    browser, _ = log_in(logins.provider, server, "admin", ADMINS)
    assert server.name_of(browser) is None
    assert logins.provider.issued == issued


def test_a_token_of_another_issuer_is_refused(logins: Logins, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins.provider, "issues_as", "localhost:1")
    issued = logins.provider.issued
    browser, _ = log_in(logins.provider, server, "admin", ADMINS)
    assert server.name_of(browser) is None
    assert logins.provider.issued == issued + 1, "the token was refused by who had asked for it"


def test_a_login_that_another_browser_began_is_refused(logins: Logins, server: Server) -> None:
    """Nobody can be made to work under somebody else's name by a link."""
    logins.provider.knows("admin", ADMINS)
    one, other = Browser(), Browser()
    link = one.consent(server.link, "admin").headers["Location"]
    other.get(server.link, follow_redirects=False)  # it has a session of its own
    other.get(link)
    one.get(re.sub("state=[^&]*", "state=another", link))
    assert server.name_of(one) is server.name_of(other) is None


def test_one_browser_is_logged_in_to_both(logins: Logins) -> None:
    logins.provider.knows("both", VIEWERS)
    browser = Browser()
    for one in logins.servers.values():
        browser.log_in(one.link, "both")
    assert {one.name_of(browser) for one in logins.servers.values()} == {"sso:both"}


def test_the_pages_lead_to_the_provider_and_back(logins: Logins, server: Server) -> None:
    logins.provider.knows("walker", VIEWERS)
    with open_page(server.url, 1280) as page:
        page.goto("/")
        page.locator("#btn-signin-sso, a[href*='/login/sso']").click()
        page.fill("input[name=sub]", "walker")
        page.get_by_role("button", name="Authorize").click()
        page.wait_for_url(lambda url: url.startswith(server.url) and "login" not in url and "oauth-authorized" not in url)
        assert page.request.get(server.me).ok


def test_an_account_of_the_provider_is_never_that_of_a_program(logins: Logins, server: Server) -> None:
    browser, _ = log_in(logins.provider, server, "admin", VIEWERS)
    assert server.name_of(browser) == "sso:admin"


def test_a_person_cannot_log_in_with_a_password(logins: Logins) -> None:
    """Airflow lets everybody give themselves one, which would outlive their groups."""
    airflow = logins.servers["airflow"]
    browser, _ = log_in(logins.provider, airflow, "keeper", VIEWERS)
    form = browser.get(f"{airflow.url}/auth/resetmypassword/form")
    (token,) = re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', form.text)
    browser.post(form.url, data={"csrf_token": token, "password": "a-long-Password-1", "conf_password": "a-long-Password-1"})
    answer = httpx.post(f"{airflow.url}/auth/token", json={"username": "sso:keeper", "password": "a-long-Password-1"}, trust_env=False)
    assert answer.status_code == httpx.codes.UNAUTHORIZED


def test_a_session_ends_after_some_hours(logins: Logins) -> None:
    superset, browser = logins.servers["superset"], None
    browser, _ = log_in(logins.provider, superset, "sleeper", VIEWERS)
    app = Flask(__name__)
    app.secret_key = superset_environment(logins.of)["SUPERSET_SECRET_KEY"]
    cookies: Any = SecureCookieSessionInterface().get_signing_serializer(app)
    session = cookies.loads(browser.cookies["superset_session"])
    for hours, name in ((-1, "sso:sleeper"), (1, None)):
        aged = {**session, "tidemark_logged_in_at": session["tidemark_logged_in_at"] - (logins.of.login_hours + hours) * 3600}
        browser.cookies.clear()
        browser.cookies.set("superset_session", cookies.dumps(aged), domain="127.0.0.1")
        assert superset.name_of(browser) == name
    assert int(airflow_environment(logins.of)["AIRFLOW__FAB__SESSION_MAX_LIFETIME_MINUTES"]) == logins.of.login_hours * 60


def test_programs_log_in_with_passwords(logins: Logins) -> None:
    """As the stack's own do: runs are started through Airflow's API, and dashboards imported through Superset's."""
    with Airflow(logins.of) as airflow:
        assert airflow.has_dag()
    environment = {**base_environment(logins.of.home), **superset_environment(logins.of)}
    done = subprocess.run(superset_module("transfer", "import"), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "to import\n" in done.stdout
