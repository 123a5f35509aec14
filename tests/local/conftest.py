"""What tests of the local stack share: settings of their own, and ports that nobody uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.servers import free_ports

from tidemark.settings import Settings, settings

PORTS = (
    *("kafka_port", "kafka_controller_port", "mongodb_port", "airflow_port", "api_port"),
    *("spark_ui_port", "speed_metrics_port", "superset_port"),
)

Configure = Callable[..., Settings]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Configure]:
    """Makes these the settings, on top of a home of the test's own, free ports and nothing else."""

    def make(**given: object) -> Settings:
        for name in [name for name in os.environ if name.startswith("TIDEMARK_")]:
            monkeypatch.delenv(name)
        own = {"home": tmp_path / "home", **dict(zip(PORTS, free_ports(len(PORTS)), strict=True))}
        for name, value in (own | given).items():
            monkeypatch.setenv(f"TIDEMARK_{name.upper()}", str(value))
        settings.cache_clear()
        return settings()

    yield make
    monkeypatch.undo()
    settings.cache_clear()
