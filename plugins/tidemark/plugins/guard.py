"""What Airflow's server refuses: requests under a host name that is not its own, and frames of other sites around its pages."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidemark.settings.sections import AirflowSettings

HEADERS = ((b"x-frame-options", b"SAMEORIGIN"), (b"content-security-policy", b"frame-ancestors 'self'"))

_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]


class FramedBySelf:
    """ASGI middleware: browsers show the answers in frames of the same site only."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: _Message, receive: Callable[[], Awaitable[_Message]], send: _Send) -> None:
        async def sending(message: _Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self._app(scope, receive, sending)


def middlewares(of: "AirflowSettings") -> list[dict[str, Any]]:
    """As Airflow's plugins declare them; none where Airflow is somebody else's."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from tidemark.settings.hosts import trusted_hosts

    if not of.guard_airflow:
        return []
    hosts = trusted_hosts(of, of.airflow_host, of.airflow_pages, of.airflow_api) or ["*"]
    return [
        {"name": "frames", "middleware": FramedBySelf},
        {"name": "hosts", "middleware": TrustedHostMiddleware, "kwargs": {"allowed_hosts": hosts, "www_redirect": False}},
    ]
