"""The accounts of the pages. Where the settings give no password, one is generated and kept under home, so that a login always exists."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from tidemark.local.kept_secrets import kept
from tidemark.settings import Settings
from tidemark.settings.sections import AirflowSettings, SupersetSettings

ADMINISTRATOR, VIEWER = "admin", "viewer"
_RANDOM_BYTES = 12  # as a password: 16 characters


def airflow_passwords(of: AirflowSettings) -> dict[str, str]:
    """The password of Airflow's account."""
    return {ADMINISTRATOR: _password(of.airflow_password, of.home / "airflow", ADMINISTRATOR)}


def superset_passwords(of: SupersetSettings) -> dict[str, str]:
    """The passwords of Superset's accounts."""
    return {name: _password(given, of.home / "superset", name) for name, given in _given_to_superset(of).items()}


def generated_passwords(of: Settings) -> dict[str, dict[str, str]]:
    """By server the passwords to show: people can use them, and no setting gives them."""
    if of.login_is_by_provider:
        return {"airflow": {}, "superset": {}}
    given = {"airflow": {ADMINISTRATOR: of.airflow_password}, "superset": _given_to_superset(of)}
    all_passwords = {"airflow": airflow_passwords(of), "superset": superset_passwords(of)}
    return {
        server: {name: password for name, password in passwords.items() if not given[server][name].get_secret_value()}
        for server, passwords in all_passwords.items()
    }


def render(passwords: dict[str, str]) -> str:
    """Accounts with their passwords, for people."""
    return ", ".join(f"{name} / {password}" for name, password in passwords.items())


def _given_to_superset(of: SupersetSettings) -> dict[str, SecretStr]:
    return {ADMINISTRATOR: of.superset_password, VIEWER: of.superset_viewer_password}


def _password(given: SecretStr, folder: Path, account: str) -> str:
    return given.get_secret_value() or kept(folder / f".password-{account}", _RANDOM_BYTES)
