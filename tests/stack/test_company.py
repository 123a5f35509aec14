"""The main job where a company runs the servers: Kafka with TLS and logins, MongoDB with accounts, people by an identity provider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.containers import containers
from support.environment import setting
from support.identity import ADMINS, OPERATORS, Browser, Provider, running_provider
from support.logins import Server
from support.secured import ADMIN_PASSWORD, secured_broker
from support.stacks import Stack, prepared_stack

from tidemark.serving import publications, verifications
from tidemark.serving.database import connect, database_of
from tidemark.settings import settings

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.soak(proof="company"), pytest.mark.timeout(1800)]

KAFKA = (
    *("kafka_bootstrap_servers", "kafka_security_protocol", "kafka_sasl_mechanism", "kafka_user", "kafka_ca_file"),
    *("product_topic", "category_topic"),
)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as found:
        yield found


@pytest.fixture
def company(provider: Provider, tmp_path: Path) -> Iterator[Stack]:
    """A stack that has not been started, and that brings neither Kafka nor MongoDB."""
    with ExitStack() as running:
        services = running.enter_context(containers("several", TIDEMARK_MONGODB_CACHE_GB="0.5"))
        services.start("accounts")
        running.enter_context(secured_broker(tmp_path))
        made = running.enter_context(prepared_stack())
        of = settings()
        made.settings |= {name: str(getattr(of, name)) for name in KAFKA} | {"kafka_password": ADMIN_PASSWORD}
        passwords = {name: services.variables[f"TIDEMARK_MONGODB_{name.upper()}_PASSWORD"] for name in ("admin", "batch", "reports")}
        urls = {"mongodb_url": "admin", "batch_mongodb_url": "batch", "superset_mongodb_url": "reports"}
        made.settings |= {name: services.mongodb_url(account, passwords[account]) for name, account in urls.items()}
        made.settings |= provider.client(*(one.returns_to for one in pages(made).values()))
        running.enter_context(setting(**made.settings))
        yield made


def pages(of: Stack) -> dict[str, Server]:
    return {
        "airflow": Server(f"http://127.0.0.1:{of.settings['airflow_port']}", "/auth/login", "/ui/auth/me"),
        "superset": Server(f"http://127.0.0.1:{of.settings['superset_port']}", "/login", "/api/v1/me/"),
    }


def test_the_main_job_beside_servers_of_a_company(company: Stack, provider: Provider) -> None:
    output = company.local("run", "--rows", "300", "--days", "1")
    folder = company.home / "catalogs" / "300-rows-1-days"
    company.add_ingested("2024-01-01", products=[folder / "products_2024-01-01.csv"], categories=[folder / "categories.csv"])
    assert company.wrong() == []
    with connect(company.of.mongodb) as client:
        database = database_of(client, company.of.database)
        served = publications.served(database)
        assert served > 0
        assert verifications.read(database, served)["drift"] == 0
    secrets = [ADMIN_PASSWORD, company.settings["login_client_secret"]]
    assert not any(secret in text for secret in secrets for text in (output, company.local("status"), company.logs()))

    for person, group in (("ann", ADMINS), ("otto", OPERATORS)):
        provider.knows(person, group)
        for server in pages(company).values():
            browser = Browser()
            browser.log_in(server.link, person)
            assert server.name_of(browser) == f"sso:{person}"
    answer = Browser().get(f"{pages(company)['airflow'].url}/api/v2/dags")
    assert answer.status_code == 401
