"""What tests of the local stack share: settings of their own, and ports that nobody uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.environment import setting
from support.servers import free_ports

from tidemark.settings import Settings

PORTS = (
    *("kafka_port", "kafka_controller_port", "mongodb_port", "airflow_port", "api_port"),
    *("spark_ui_port", "speed_metrics_port", "superset_port"),
)

Configure = Callable[..., Settings]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Makes settings of these values, on top of a home of the test's own and free ports."""

    def make(**given: Any) -> Settings:
        own: dict[str, Any] = {"home": tmp_path / "home", **dict(zip(PORTS, free_ports(len(PORTS)), strict=True))}
        return Settings(**own | given)

    return make


@pytest.fixture
def configured(configure: Configure) -> Iterator[Settings]:
    """Such settings as those of this process and its children."""
    made = configure()
    with setting(**{name: str(getattr(made, name)) for name in ("home", *PORTS)}) as found:
        yield found
