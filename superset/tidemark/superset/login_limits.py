"""How often somebody may try to log in. Superset limits neither its form, since that has a page of its own, nor its API."""

from typing import Any

from flask import Flask, request
from flask_limiter.util import get_remote_address

LIMIT = "10 per minute"  # per address and account; in each process, unless Redis is configured
_FORM, _API = "AuthDBView.login", "SecurityApi.login"  # endpoints


def client() -> str:
    """Whose requests count together."""
    body = request.get_json(silent=True) if request.is_json else request.form
    account = body.get("username", "") if hasattr(body, "get") else ""
    return f"{get_remote_address()} {account}"


def limit_logins(app: Flask) -> None:
    """To be called when Superset has its views. Logins that succeed by API do not count."""
    limiter: Any = app.appbuilder.sm.limiter
    limits = {
        _FORM: limiter.limit(LIMIT, key_func=client, methods=["POST"]),
        _API: limiter.limit(LIMIT, key_func=client, deduct_when=lambda answer: answer.status_code >= 400),
    }
    for endpoint, limited in limits.items():
        if endpoint in app.view_functions:  # with another identity provider there is no form
            app.view_functions[endpoint] = limited(app.view_functions[endpoint])
