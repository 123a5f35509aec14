"""Under which names the servers answer."""

from __future__ import annotations

import pytest

from tidemark.plugins.guard import middlewares
from tidemark.settings.hosts import trusted_hosts

LOOPBACK = ["127.0.0.1", "localhost", "::1", "[::1]"]


@pytest.mark.parametrize(
    ("settings", "urls", "expected"),
    [
        ({}, (), LOOPBACK),
        ({}, ("https://airflow.shop.example/a", ""), [*LOOPBACK, "airflow.shop.example"]),
        ({"trusted_hosts": "api.shop.example, *.internal"}, (), ["api.shop.example", "*.internal", *LOOPBACK]),
        ({"api_host": "0.0.0.0", "api_key": "a" * 20}, (), []),
        ({"api_host": "0.0.0.0", "api_key": "a" * 20, "trusted_hosts": "api"}, (), ["api", *LOOPBACK]),
    ],
)
def test_trusted_hosts(configure, settings: dict[str, str], urls: tuple[str, ...], expected: list[str]) -> None:
    of = configure(**settings)
    assert trusted_hosts(of, of.api_host, *urls) == expected


def test_an_airflow_of_others_is_left_alone(configure) -> None:
    assert middlewares(configure()) == []
    assert len(middlewares(configure(guard_airflow=True))) == 2
