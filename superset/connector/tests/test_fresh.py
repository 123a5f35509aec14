"""Tests in new environments: the README's commands produce a chart's data, and the dialect's tests pass with SQLAlchemy 2."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pipe_server import free_port
from pymongo import MongoClient

pytestmark = [pytest.mark.server, pytest.mark.fresh, pytest.mark.timeout(1800)]

CONNECTOR = Path(__file__).resolve().parent.parent
DATABASE = "mongopipe_readme"
LEFT_BEHIND = shutil.ignore_patterns("__pycache__", ".*cache", "build", "*.egg-info", "superset-env", "superset-home")


def commands() -> str:
    """Returns the README's block of commands for a new environment."""
    found = re.search(r"<!-- try -->\n```sh\n(.*?)```", (CONNECTOR / "README.md").read_text(), re.DOTALL)
    assert found, "README.md has no block of commands after <!-- try -->"
    return found[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the connector without generated files."""
    return Path(shutil.copytree(CONNECTOR, tmp_path / "connector", ignore=LEFT_BEHIND))


def environment(**more: str) -> dict[str, str]:
    """Returns the current environment without PYTHONPATH and with additional variables."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | more


def test_from_nothing_to_a_chart(server_url: str, folder: Path, tmp_path: Path) -> None:
    variables = environment(MONGODB=f"{server_url.removeprefix('mongodb://')}/{DATABASE}", PORT=str(free_port()), PASSWORD="a-password")
    with MongoClient[dict[str, object]](server_url) as client:
        client.drop_database(DATABASE)
        prices = [("Toys", 5), ("Toys", 7.5), ("Tools", 20), ("Tools", None)]
        client[DATABASE].product.insert_many([{"category": category, "price": price} for category, price in prices])
        answer, log = tmp_path / "answer", tmp_path / "log"
        with answer.open("wb") as output, log.open("wb") as errors:
            shell = subprocess.Popen(
                ["sh", "-euc", commands()], cwd=folder, env=variables, stdout=output, stderr=errors, start_new_session=True
            )
            try:
                status = shell.wait(1_500)
            finally:
                os.killpg(shell.pid, signal.SIGTERM)  # Superset keeps running after the shell ends
        client.drop_database(DATABASE)
    assert status == 0, log.read_text()[-5_000:]
    rows = ast.literal_eval(answer.read_text().splitlines()[-1])
    assert sorted(rows, key=lambda row: row["category"]) == [{"category": "Tools", "average": 20.0}, {"category": "Toys", "average": 6.25}]


@pytest.mark.parametrize("version", ["2.0", "2.1"])
@pytest.mark.parametrize(("where", "tests"), [(".", "tests/test_dialect.py"), ("compliance", "test_sqlalchemy_suite.py")])
def test_sqlalchemy_2(server_url: str, folder: Path, version: str, where: str, tests: str) -> None:
    """The connector's own extra `test` has everything that its tests import."""
    python = str(folder / "environment" / "bin" / "python")
    packages = [f"sqlalchemy=={version}.*", ".[test]"]
    for command in ([sys.executable, "-m", "venv", "environment"], [python, "-m", "pip", "install", "--quiet", *packages]):
        subprocess.run(command, cwd=folder, env=environment(), check=True)
    done = subprocess.run(
        [python, "-m", "pytest", "-q", tests],
        cwd=folder / where,
        env=environment(MONGOPIPE_TEST_URL=server_url),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5_000:]
