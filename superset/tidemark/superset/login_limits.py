"""How often somebody may try to log in: by form, and by Superset's API, whose login has no limit of its own."""

from typing import Any

from flask import Flask, request
from flask_limiter.util import get_remote_address

LIMIT = "10 per minute"  # per address and account; in each process, unless Redis is configured
_API_LOGIN = "SecurityApi.login"


def client() -> str:
    """Whose requests count together."""
    body = request.get_json(silent=True) if request.is_json else request.form
    account = body.get("username", "") if hasattr(body, "get") else ""
    return f"{get_remote_address()} {account}"


def limit_api_logins(app: Flask) -> None:
    """To be called when Superset has its views. Logins that succeed do not count."""
    limiter: Any = app.appbuilder.sm.limiter
    limited = limiter.limit(LIMIT, key_func=client, deduct_when=lambda answer: answer.status_code >= 400)
    app.view_functions[_API_LOGIN] = limited(app.view_functions[_API_LOGIN])
