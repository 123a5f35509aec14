"""Logins to Superset by an identity provider (OpenID Connect): members of its groups get one role, at each login anew, and others none.

SUPERSET_LOGIN_ISSUER names the provider; without it accounts have passwords. SUPERSET_LOGIN_CLIENT_ID, _CLIENT_SECRET, _SCOPES,
_NAME_CLAIM, _GROUPS_CLAIM, _ADMINS, _OPERATORS, _VIEWERS and _HOURS are those of Tidemark's settings. SUPERSET_PUBLIC_URL is Superset's URL
in browsers.
Programs log in by API with the passwords of the accounts that `prepare` makes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import FlaskOAuth2App
from flask import Flask, abort, make_response, session
from flask_appbuilder.const import AUTH_OAUTH
from flask_login import current_user, logout_user, user_logged_in
from superset.security import SupersetSecurityManager

from tidemark.superset.login_limits import limit_logins

PROVIDER = "sso"  # as URLs of Superset name it, and the button of its page
ANSWER_SECONDS = 10
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOGGED_IN_AT = "tidemark_logged_in_at"  # in sessions, in seconds since 1970
# Its names cannot be those of accounts that the provider knows nothing of.
_PREFIX = "sso:"
_REFUSAL = (
    "You are logged in at the identity provider, but have no role in Superset, because you are in none of the groups that have one. "
    "Ask an administrator to add you to a group of TIDEMARK_LOGIN_ADMINS, TIDEMARK_LOGIN_OPERATORS or TIDEMARK_LOGIN_VIEWERS, "
    "and log in again.\n"
)

Claims = Mapping[str, Any]


def configuration() -> dict[str, Any]:
    """The part of Superset's configuration that is about logins; without a provider nothing."""
    issuer = os.environ.get("SUPERSET_LOGIN_ISSUER", "")
    if not issuer:
        return {}
    if not issuer.startswith("https://") and urlsplit(issuer).hostname not in LOOPBACK:
        sys.exit("Superset cannot start: over http anybody on the way to the provider could log in as anybody: use https")
    return {
        "AUTH_TYPE": AUTH_OAUTH,
        "OAUTH_PROVIDERS": [_provider(issuer)],
        "CUSTOM_SECURITY_MANAGER": SecurityManager,
        "FLASK_APP_MUTATOR": _limit_logins_and_sessions,
        "AUTH_ROLES_SYNC_AT_LOGIN": True,
        "AUTH_API_LOGIN_ALLOW_MULTIPLE_PROVIDERS": True,  # programs have passwords
        "SESSION_COOKIE_NAME": "superset_session",  # Airflow's is named session, and browsers make no difference between ports
    }


def _limit_logins_and_sessions(app: Flask) -> None:
    """To be called when Superset has its views. Whoever has logged in more than SUPERSET_LOGIN_HOURS ago logs in again."""
    limit_logins(app)
    seconds = float(_given("HOURS")) * 3600

    @user_logged_in.connect_via(app, weak=False)
    def stamp(*_: object, **__: object) -> None:
        session[LOGGED_IN_AT] = time.time()

    @app.before_request
    def end_old_session() -> None:
        if LOGGED_IN_AT in session and time.time() - session[LOGGED_IN_AT] > seconds and current_user.is_authenticated:
            logout_user()


class SecurityManager(SupersetSecurityManager):
    def get_oauth_user_info(self, provider: str, resp: dict[str, Any]) -> dict[str, Any]:
        """Raises KeyError if the answer has no ID token that was valid."""
        claims = with_groups(resp["userinfo"], _given("GROUPS_CLAIM"), self.oauth_remotes[provider].userinfo)
        return {
            "username": f"{_PREFIX}{claims[_given('NAME_CLAIM')]}",
            "first_name": str(claims.get("given_name") or claims.get("name") or claims.get("preferred_username") or ""),
            "last_name": str(claims.get("family_name") or ""),
            "role": role_of(claims),
        }

    def auth_user_oauth(self, userinfo: dict[str, Any]) -> Any:
        name, role = userinfo["username"], userinfo["role"]
        known = self.find_user(username=name)
        if role:
            if not known:
                mail = f"{name}@tidemark.localdomain"  # Superset wants an address of its own for each account
                self.add_user(name, userinfo["first_name"], userinfo["last_name"], mail, self.find_role(role))
            return super().auth_user_oauth(userinfo)
        if known:
            known.roles = []
            self.update_user(known)
        return abort(make_response(_REFUSAL, 403, {"Content-Type": "text/plain; charset=utf-8"}))

    def auth_user_db(self, username: str, password: str) -> Any:
        """Whoever logs in by the provider has no password: one that they gave themselves would outlive their groups."""
        found = super().auth_user_db(username, password)
        return None if found and found.username.startswith(_PREFIX) else found

    def _oauth_calculate_user_roles(self, userinfo: dict[str, Any]) -> list[Any]:
        return [self.find_role(userinfo["role"])]


def role_of(claims: Claims) -> str | None:
    """Superset's role for somebody with these claims: that of the most powerful group; None without any."""
    given = claims.get(_given("GROUPS_CLAIM")) or []
    groups = {given} if isinstance(given, str) else set(given)
    roles = {"Admin": "ADMINS", "Operator": "OPERATORS", "Viewer": "VIEWERS"}
    return next((role for role, setting in roles.items() if groups.intersection(_separated(setting))), None)


def with_groups(identity: Claims, groups_claim: str, userinfo: Callable[[], Claims]) -> Claims:
    """The claims of an ID token. A provider may tell the groups at its userinfo endpoint only, which must speak of the same person."""
    if groups_claim in identity:
        return identity
    more = userinfo()
    if more["sub"] != identity["sub"]:
        raise OAuthError(description="the provider's userinfo endpoint answers for another person than the one who has logged in")
    return {**more, **identity}


def _provider(issuer: str) -> dict[str, Any]:
    return {
        "name": PROVIDER,
        "icon": "fa-key",
        "token_key": "access_token",
        "remote_app": {
            "client_cls": _client_of(issuer, f"{os.environ['SUPERSET_PUBLIC_URL']}/oauth-authorized/{PROVIDER}"),
            "client_id": _given("CLIENT_ID"),
            "client_secret": _given("CLIENT_SECRET"),
            "server_metadata_url": f"{issuer.rstrip('/')}/.well-known/openid-configuration",
            "client_kwargs": {"scope": _given("SCOPES"), "code_challenge_method": "S256", "default_timeout": ANSWER_SECONDS},
        },
    }


def _client_of(issuer: str, returns_to: str) -> type[FlaskOAuth2App]:
    """A client of the provider that is this issuer, which sends people back to this address whatever name their request bore."""

    class Client(FlaskOAuth2App):
        def load_server_metadata(self) -> dict[str, Any]:
            found: dict[str, Any] = super().load_server_metadata()
            if found.get("issuer") != issuer:
                raise OAuthError(
                    description=f"the provider says that it is {found.get('issuer')}, not {issuer}: correct TIDEMARK_LOGIN_ISSUER"
                )
            return found

        def authorize_redirect(self, redirect_uri: str | None = None, **more: Any) -> Any:  # noqa: ARG002
            return super().authorize_redirect(returns_to, **more)

    return Client


def _given(name: str) -> str:
    if value := os.environ.get(f"SUPERSET_LOGIN_{name}"):
        return value
    sys.exit(f"Superset cannot start: an identity provider is set, but TIDEMARK_LOGIN_{name} is not")


def _separated(name: str) -> list[str]:
    return [part for one in os.environ.get(f"SUPERSET_LOGIN_{name}", "").split(",") if (part := one.strip())]
