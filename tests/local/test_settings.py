"""Settings: each says what it is for, a wrong one is named, and nothing else reads the environment."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from tidemark.settings import CHECKOUT, Settings

PARTS = ("src", "ingest", "spark", "dags", "plugins")

# Who touches the environment by other ways than the class Settings: where Java is, what children get, and what PySpark's workers need.
OTHERS = {
    "dags/tidemark/dags/housekeeping.py",
    "spark/tidemark/spark/class_archive.py",
    "spark/tidemark/spark/session.py",
    "src/tidemark/local/programs.py",
    "src/tidemark/settings/__init__.py",
}


def test_every_setting_says_what_it_is_for() -> None:
    silent = [name for name, field in Settings.model_fields.items() if len(field.description or "") < 10]
    assert silent == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("KAFKA_PORT", "abc"), ("AIRFLOW_PORT", "0"), ("MONGODB_PORT", "65536"), ("CHUNK_BYTES", "0"), ("TRIGGER_SECONDS", "-1")],
)
def test_a_wrong_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TIDEMARK_{name}", value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert [one["loc"] for one in refused.value.errors()] == [(name.lower(),)]


def test_an_empty_variable_is_as_if_it_were_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_KAFKA_PORT", "")
    assert Settings().kafka_port == Settings.model_fields["kafka_port"].default


def test_a_process_keeps_its_settings() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings().database = "another"  # type: ignore[misc]
    assert [(one["loc"], one["type"]) for one in refused.value.errors()] == [(("database",), "frozen_instance")]


def _reading_the_environment(file: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv" | "putenv"):
                yield node.lineno
            case ast.ImportFrom(module="os", names=names) if {name.name for name in names} & {"environ", "getenv"}:
                yield node.lineno


def test_nobody_else_reads_the_environment() -> None:
    files = [file for part in PARTS for file in (CHECKOUT / part).rglob("*.py")]
    assert len(files) > 30
    found = {file.relative_to(CHECKOUT).as_posix(): list(_reading_the_environment(file)) for file in files}
    assert {name for name, lines in found.items() if lines} == OTHERS
