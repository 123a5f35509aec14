"""The Airflow plugin: the operations page *Tidemark*, in the navigation and as a tab of every run, which is read-only; and the guard.

Airflow executes this file in each of its processes, tasks included, so imports that only the API server needs are deferred.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from fastapi import FastAPI

PAGE = Path(__file__).parent / "page"
AT = "tidemark"  # URL path of the plugin, relative to Airflow's
VIEW = {"name": "Tidemark", "bundle_url": f"{AT}/page/control_room.js", "icon": f"{AT}/page/icon.svg"}


class ControlRoom(AirflowPlugin):
    """Registers a React component within Airflow's pages (not an iframe), with Airflow's colours, router and login."""

    name = "tidemark"
    react_apps: ClassVar[list[dict[str, Any]]] = [  # type: ignore[misc]  # Airflow declares it without ClassVar
        {**VIEW, "destination": "nav", "url_route": "tidemark", "nav_top_level": True},
        {**VIEW, "destination": "dag_run", "url_route": "tidemark-state"},
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # Airflow declares a list; the API server alone reads this
        return [{"app": application(), "url_prefix": f"/{AT}", "name": "Tidemark"}]

    @cached_property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:  # type: ignore[override]
        from tidemark.plugins.guard import middlewares
        from tidemark.settings import settings

        return middlewares(settings())


def application() -> "FastAPI":
    """Serves the state as JSON and the page's files to users who may view Airflow's pages; others get 401."""
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import requires_access_view
    from fastapi import Depends, FastAPI, HTTPException, Response
    from fastapi.responses import FileResponse

    from tidemark.serving.cached_status import CachedStatus
    from tidemark.settings import settings
    from tidemark.settings.airflow_names import Dag

    of = settings()
    # Every route of this app requires a login; FastAPI's own documentation pages would not, so they are disabled.
    logged_in = [Depends(requires_access_view(AccessView.WEBSITE))]
    app = FastAPI(dependencies=logged_in, openapi_url=None)
    # Uses the MongoDB URL of the settings, like stream and batch. Airflow's hook would connect anew for each request, with its own
    # timeouts.
    cached = CachedStatus(of)

    @app.get("/state")
    def state(response: Response) -> dict[str, Any]:
        found = cached.now()
        response.status_code = 503 if found.problem else 200
        return {**found._asdict(), "superset": of.superset_pages, "dag_ids": {one.value: of.airflow_names.of(one) for one in Dag}}

    @app.get("/page/{name}")
    def file(name: str) -> FileResponse:
        if name not in {one.name for one in PAGE.iterdir()}:
            raise HTTPException(404)
        return FileResponse(PAGE / name, headers={"Cache-Control": "no-cache"})

    return app
