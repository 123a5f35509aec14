"""The Airflow plugin: page Tidemark in the navigation, and as a tab of every run. It draws the one state and changes nothing.

Airflow executes this file in each of its processes, tasks too: what only its API server needs is imported when that asks for it.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from fastapi import FastAPI

PAGE = Path(__file__).parent / "page"
AT = "tidemark"  # the path of all this, relative to Airflow's own
SHOWN = {"name": "Tidemark", "bundle_url": f"{AT}/page/control_room.js", "icon": f"{AT}/page/icon.svg"}


class ControlRoom(AirflowPlugin):
    """Not a page in a frame: a React component in Airflow's own, with its colours, its router and its login."""

    name = "tidemark"
    react_apps: ClassVar[list[dict[str, Any]]] = [
        {**SHOWN, "destination": "nav", "url_route": "tidemark", "nav_top_level": True},
        {**SHOWN, "destination": "dag_run", "url_route": "tidemark-state"},
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        return [{"app": application(), "url_prefix": f"/{AT}", "name": "Tidemark"}]


def application() -> "FastAPI":
    """The state as JSON and the page's files, for whom Airflow lets see its pages; others are answered 401."""
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import requires_access_view
    from fastapi import Depends, FastAPI, HTTPException, Response
    from fastapi.responses import FileResponse

    from tidemark.serving.cached_status import CachedStatus
    from tidemark.settings import settings
    from tidemark.settings.airflow_names import Dag

    # Whatever is added here is behind the login; FastAPI's own pages would not be.
    logged_in = [Depends(requires_access_view(AccessView.WEBSITE))]
    app = FastAPI(dependencies=logged_in, openapi_url=None)
    # Not Airflow's MongoDB connection, whose hook waits as long as that says and connects anew each time: the settings', which the
    # stream and the batch have too.
    looks = CachedStatus()

    @app.get("/state")
    def state(response: Response) -> dict[str, Any]:
        found = looks.now()
        response.status_code = 503 if found.problem else 200
        return {**found._asdict(), "superset": settings().superset_pages, "dag_ids": {one.value: one.id for one in Dag}}

    @app.get("/page/{name}")
    def file(name: str) -> FileResponse:
        if name not in {one.name for one in PAGE.iterdir()}:
            raise HTTPException(404)
        return FileResponse(PAGE / name, headers={"Cache-Control": "no-cache"})

    return app
