"""The accounts of the pages. Where the settings give no password, one is generated and kept under home, so that a login always exists."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from tidemark.local.kept_secrets import kept
from tidemark.settings.sections import AirflowSettings, SupersetSettings

ADMINISTRATOR, VIEWER = "admin", "viewer"
_RANDOM_BYTES = 12  # as a password: 16 characters


def airflow_passwords(of: AirflowSettings) -> dict[str, str]:
    """The password of Airflow's account."""
    return {ADMINISTRATOR: _password(of.airflow_password, of.home / "airflow", ADMINISTRATOR)}


def superset_passwords(of: SupersetSettings) -> dict[str, str]:
    """The passwords of Superset's accounts."""
    given = {ADMINISTRATOR: of.superset_password, VIEWER: of.superset_viewer_password}
    return {name: _password(password, of.home / "superset", name) for name, password in given.items()}


def generated_airflow_passwords(of: AirflowSettings) -> dict[str, str]:
    """Those that may be shown, because no setting gives them."""
    return {} if of.airflow_password.get_secret_value() else airflow_passwords(of)


def generated_superset_passwords(of: SupersetSettings) -> dict[str, str]:
    """Those that may be shown, because no setting gives them."""
    given = {ADMINISTRATOR: of.superset_password, VIEWER: of.superset_viewer_password}
    return {name: password for name, password in superset_passwords(of).items() if not given[name].get_secret_value()}


def render(passwords: dict[str, str]) -> str:
    """Accounts with their passwords, for people."""
    return ", ".join(f"{name} / {password}" for name, password in passwords.items())


def _password(given: SecretStr, folder: Path, account: str) -> str:
    return given.get_secret_value() or kept(folder / f".password-{account}", _RANDOM_BYTES)
