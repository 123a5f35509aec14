"""Logins by Keycloak: the same as by the provider of test_logins, at one that companies run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from support.keycloak import Keycloak, running_keycloak
from support.logins import Server, running_servers
from support.servers import free_ports
from support.stacks import Stack

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.soak(proof="logins"), pytest.mark.timeout(1800)]

PEOPLE = {"ann": ["admins"], "otto": ["operators"], "vera": ["viewers"], "guest": []}


@pytest.fixture(scope="module")
def servers(started: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    with ExitStack() as running:

        def register(*redirect_uris: str) -> dict[str, str]:
            (port,) = free_ports(1)
            keycloak: Keycloak = running.enter_context(running_keycloak(PEOPLE, redirect_uris, port))
            return keycloak.settings

        yield running.enter_context(running_servers(started, tmp_path_factory.mktemp("keycloak") / "home", register))


def test_people_have_the_roles_of_their_groups(servers: dict[str, Server]) -> None:
    airflow, superset = servers["airflow"], servers["superset"]
    for person, (reads, administers) in {"ann": (200, 200), "otto": (200, 403), "vera": (200, 403)}.items():
        browser, _ = Keycloak.log_in(airflow.link, person)
        assert airflow.name_of(browser) == f"sso:{person}"
        found = [browser.get(f"{airflow.url}/api/v2/{what}").status_code for what in ("dags", "connections")]
        assert found == [reads, administers], person
    for person, role in {"ann": "Admin", "otto": "Operator", "vera": "Viewer"}.items():
        browser, _ = Keycloak.log_in(superset.link, person)
        assert superset.name_of(browser) == f"sso:{person}"
        assert list(browser.get(f"{superset.url}/api/v1/me/roles/").json()["result"]["roles"]) == [role]


@pytest.mark.parametrize("name", ["airflow", "superset"])
def test_somebody_in_no_group_is_refused(servers: dict[str, Server], name: str) -> None:
    browser, page = Keycloak.log_in(servers[name].link, "guest")
    assert page.status_code == httpx.codes.FORBIDDEN
    assert "none of the groups" in page.text
    assert servers[name].name_of(browser) is None
