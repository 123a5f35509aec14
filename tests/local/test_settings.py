"""Settings: each says what it is for, a wrong one is named, nothing else reads the environment, and entry points alone read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from support.wording import Wording

from tidemark.settings import CHECKOUT, Settings, describe_errors, document
from tidemark.settings.sections import SECTIONS, own_fields

PARTS = ("src", "ingest", "spark", "dags", "plugins")

# Who touches the environment by other ways than the class Settings: where Java is, what children get, and what PySpark's workers need.
OTHERS = {
    "spark/tidemark/spark/class_archive.py",
    "spark/tidemark/spark/session.py",
    "src/tidemark/housekeeping/__init__.py",
    "src/tidemark/local/programs.py",
    "src/tidemark/settings/__init__.py",
}

# Who reads the settings, besides functions `main`: what Airflow runs, and applications. All others are passed what they need.
ENTRY_POINTS = {
    *(f"dags/tidemark/dags/{name}.py" for name in ("adopt", "alerts", "chunks", "dashboards", "history", "ingestion", "maintenance")),
    *(f"dags/tidemark/dags/{name}.py" for name in ("nightly", "quarantine", "rebuild", "stream", "withdraw")),
    "plugins/tidemark/plugins/control_room.py",
    "plugins/tidemark/plugins/webserver_config.py",
    "bench/peer_api.py",
}
# Each of these reads the environment.
READERS = {"settings", "Settings", *(section.__name__ for section in SECTIONS)}


def test_every_setting_has_a_description() -> None:
    silent = [name for name, field in Settings.model_fields.items() if len(field.description or "") < 6]
    assert silent == []


def test_each_setting_belongs_to_one_section_and_is_documented() -> None:
    assert sorted(Settings.model_fields) == sorted(name for section in SECTIONS for name in own_fields(section))
    assert document.FILE.read_text() == document.text(), "python -m tidemark.settings.document writes it"


@pytest.mark.parametrize(
    ("name", "value"),
    [("KAFKA_PORT", "abc"), ("AIRFLOW_PORT", "0"), ("MONGODB_PORT", "65536"), ("CHUNK_BYTES", "0"), ("TRIGGER_SECONDS", "-1")],
)
def test_an_invalid_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TIDEMARK_{name}", value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert [one["loc"] for one in refused.value.errors()] == [(name.lower(),)]


PUBLIC = {
    "airflow": {"airflow_password": "a", "airflow_secret_key": "b" * 48},
    "api": {"api_key": "k"},
    "superset": {"superset_password": "a", "superset_viewer_password": "b", "superset_secret_key": "c" * 42},
}


@pytest.mark.parametrize("server", PUBLIC)
def test_a_public_address_requires_secrets(configure, server: str, wording: Wording) -> None:
    """In every process: a setting that contradicts another is refused wherever it is read."""
    secrets, refusals = PUBLIC[server], {}
    for missing in secrets:
        with pytest.raises(ValidationError) as refused:
            configure(**{f"{server}_host": "0.0.0.0"}, **{name: value for name, value in secrets.items() if name != missing})
        (refusals[missing],) = describe_errors(refused.value)
    configure(**{f"{server}_host": "0.0.0.0"}, **secrets)
    configure(**{f"{server}_host": "localhost"})
    for missing, message in refusals.items():
        wording.check(message, missing)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEYS", '{"shop": "hush"'),
        ("API_KEYS", '{"shop": ["hush"]}'),
        ("API_KEYS", '{"a shop": "hush"}'),
        ("API_KEYS", '{"default": "hush"}'),
        ("API_KEYS", '{"shop": ""}'),
        ("API_KEYS", '{"shop": "hush", "other": "hush"}'),
        ("API_TRUSTED_PROXIES", "10.0.0.5, proxy"),
        ("API_TRUSTED_PROXIES", "10.0.0.5/24"),
    ],
)
def test_invalid_settings_of_the_api(monkeypatch: pytest.MonkeyPatch, name: str, value: str, wording: Wording) -> None:
    monkeypatch.setenv(f"TIDEMARK_{name}", value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    (message,) = describe_errors(refused.value)
    assert "hush" not in message
    wording.check(message)


PROVIDER = {
    "login_issuer": "https://id.example.com/realms/shop",
    "login_client_id": "tidemark",
    "login_client_secret": "hush",
    "login_admins": "admins",
}


@pytest.mark.parametrize(
    "changed",
    [
        {"login_issuer": ""},
        {"login_client_id": "", "login_admins": ""},
        {"login_client_secret": ""},
        {"login_issuer": "id.example.com"},
        {"login_issuer": "http://id.example.com/realms/shop"},
        {"login_issuer": "https://id.example.com/realms/shop/.well-known/openid-configuration"},
        {"login_scopes": "profile"},
    ],
    ids=lambda changed: " ".join(f"{name}={value}" for name, value in changed.items()),
)
def test_an_incomplete_identity_provider_is_refused(configure, changed: dict[str, str], wording: Wording) -> None:
    with pytest.raises(ValidationError) as refused:
        configure(**PROVIDER | changed)
    (message,) = describe_errors(refused.value)
    assert "hush" not in message
    wording.check(message)


def test_an_identity_provider_on_this_machine_may_have_no_tls(configure) -> None:
    assert configure(**PROVIDER).login_is_by_provider
    assert configure(**PROVIDER | {"login_issuer": "http://localhost:9400"}).login_is_by_provider
    assert not configure().login_is_by_provider


def test_the_single_key_and_named_ones_are_one_set(configure) -> None:
    assert configure().named_api_keys == {}
    assert configure(api_key="a").named_api_keys == {"default": "a"}
    both = configure(api_key="a", api_keys='{"shop": "b"}', api_host="0.0.0.0")
    assert both.named_api_keys == {"default": "a", "shop": "b"}
    assert configure(api_keys='{"shop": "b"}', api_key="", api_host="0.0.0.0").named_api_keys == {"shop": "b"}


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_KAFKA_PORT", "")
    assert Settings().kafka_port == Settings.model_fields["kafka_port"].default


def test_a_process_reads_its_settings_once() -> None:
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


def test_only_the_settings_read_the_environment() -> None:
    files = [file for part in PARTS for file in (CHECKOUT / part).rglob("*.py")]
    assert len(files) > 30
    found = {file.relative_to(CHECKOUT).as_posix(): list(_reading_the_environment(file)) for file in files}
    assert {name for name, lines in found.items() if lines} == OTHERS


def _reading_settings(source: str) -> Iterator[int]:
    """The lines outside `main` at which the settings are read, or the function that reads them is passed on."""
    tree = ast.parse(source)
    (*mains,) = (one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "main")
    within = {node for main in mains for node in ast.walk(main)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in READERS and node not in within:
                yield node.lineno
            case ast.Name(id="settings") if node not in within:
                yield node.lineno


def test_only_entry_points_read_the_settings() -> None:
    files = [file for part in (*PARTS, "bench") for file in (CHECKOUT / part).rglob("*.py")]
    others = [file for file in files if not file.is_relative_to(CHECKOUT / "src" / "tidemark" / "settings")]
    assert len(others) > 100
    found = {file.relative_to(CHECKOUT).as_posix(): list(_reading_settings(file.read_text())) for file in others}
    assert {name for name, lines in found.items() if lines} == ENTRY_POINTS


@pytest.mark.parametrize(
    "source",
    [
        "def connect(url=None):\n    return url or settings().mongodb",
        "def connect(url=settings().mongodb):\n    return url",
        "def names():\n    return AirflowSettings().airflow_names",
        "home = tidemark.settings.Settings().home",
        "run(settings)",
        "class Stream:\n    def main(self):\n        return settings()",
    ],
)
def test_other_readers_of_the_settings_are_detected(source: str) -> None:
    assert list(_reading_settings(source))
