"""Prepares Superset before it starts: database migrations, roles, and two accounts. Idempotent; runs in Superset's environment.

SUPERSET_PASSWORD is the administrator's password, SUPERSET_VIEWER_PASSWORD that of the read-only account `viewer`. Each run sets both
passwords, so that those of the environment always apply.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from flask_migrate import upgrade
from superset.app import create_app

ADMINISTRATOR, VIEWER = "admin", "viewer"

# Permissions of a viewer: see dashboards and their charts, filter, drill, and download rows. These are taken from Superset's role Gamma;
_READ = {"can_read", "can_get", "can_get_drill_info", "can_drill", "can_view_chart_as_table", "can_view_query", "can_csv", "can_userinfo"}
# these are added to them.
_MORE = {
    ("all_datasource_access", "all_datasource_access"),
    ("menu_access", "Dashboards"),
    ("menu_access", "Charts"),
    ("can_dashboard", "Superset"),
    ("can_dashboard_permalink", "Superset"),
    ("can_explore", "Superset"),
    ("can_explore_json", "Superset"),
    ("can_fetch_datasource_metadata", "Superset"),
    ("can_language_pack", "Superset"),
    ("can_log", "Superset"),
    ("can_slice", "Superset"),
    ("can_recent_activity", "Log"),
    ("can_external_metadata", "Datasource"),
    ("can_samples", "Datasource"),
    ("can_time_range", "Api"),
    ("can_query", "Api"),
    ("can_query_form_data", "Api"),
    # Superset stores filter settings and permalinks here.
    ("can_write", "DashboardFilterStateRestApi"),
    ("can_write", "DashboardPermalinkRestApi"),
    ("can_write", "ExploreFormDataRestApi"),
    ("can_write", "ExplorePermalinkRestApi"),
}
# An operator's beside a viewer's: charts and dashboards of their own over the datasets that are there. No SQL Lab, no datasets.
_OWN_CHARTS = {("can_write", "Chart"), ("can_write", "Dashboard"), ("can_export", "Chart"), ("can_export", "Dashboard")}


def _account(security: Any, name: str, role: Any, password: str) -> None:
    user = security.find_user(name)
    if user is None:
        security.add_user(name, name.capitalize(), "Tidemark", f"{name}@tidemark.localdomain", role, password=password)
        return
    user.roles = [role]
    security.reset_password(user.id, password)


def _viewers_role(security: Any) -> Any:
    role = security.find_role("Viewer") or security.add_role("Viewer")
    role.permissions = [one for one in security.find_role("Gamma").permissions if one.permission.name in _READ]
    return _extended(security, role, _MORE)


def _operators_role(security: Any, viewers: Any) -> Any:
    """For logins by an identity provider (tidemark.superset.login); no account has it by itself."""
    role = security.find_role("Operator") or security.add_role("Operator")
    role.permissions = list(viewers.permissions)
    return _extended(security, role, _OWN_CHARTS)


def _extended(security: Any, role: Any, names: set[tuple[str, str]]) -> Any:
    role.permissions += [
        found for name in sorted(names) if (found := security.find_permission_view_menu(*name)) not in (None, *role.permissions)
    ]
    security.session.commit()
    return role


def main() -> int:
    app = create_app()
    with app.app_context():
        upgrade(directory=str(Path(app.root_path) / "migrations"))
        from superset import appbuilder, security_manager

        appbuilder.add_permissions(update_perms=True)
        security_manager.sync_role_definitions()
        _account(security_manager, ADMINISTRATOR, security_manager.find_role("Admin"), os.environ["SUPERSET_PASSWORD"])
        viewers = _viewers_role(security_manager)
        _operators_role(security_manager, viewers)
        _account(security_manager, VIEWER, viewers, os.environ["SUPERSET_VIEWER_PASSWORD"])
    sys.stdout.write("Superset's database and accounts are ready\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
