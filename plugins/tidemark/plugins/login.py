"""Logins to Airflow by an identity provider (OpenID Connect): members of its groups get one role, at each login anew, and others none.

Airflow's API server alone imports this file, through `webserver_config`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow.api_fastapi.app import get_auth_manager
from airflow.providers.fab.auth_manager.security_manager.override import FabAirflowSecurityManagerOverride
from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import FlaskOAuth2App
from flask import abort, make_response

from tidemark.settings.sections import AirflowSettings, LoginSettings, separated

PROVIDER = "sso"  # as URLs of Airflow name it, and the button of its page
PROGRAMS = "admin"  # account by which programs log in with a password
ANSWER_SECONDS = 10
# Its names cannot be those of accounts that the provider knows nothing of.
_PREFIX = "sso:"
_REFUSAL = (
    "You are logged in at the identity provider, but have no role in Airflow, because you are in none of the groups that have one. "
    "Ask an administrator to add you to a group of TIDEMARK_LOGIN_ADMINS, TIDEMARK_LOGIN_OPERATORS or TIDEMARK_LOGIN_VIEWERS, "
    "and log in again.\n"
)

if TYPE_CHECKING:
    from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager

Claims = Mapping[str, Any]


def role_of(of: LoginSettings, claims: Claims) -> str | None:
    """Airflow's role for somebody with these claims: that of the most powerful group; None without any."""
    given = claims.get(of.login_groups_claim) or []
    groups = {given} if isinstance(given, str) else set(given)
    roles = {"Admin": of.login_admins, "User": of.login_operators, "Viewer": of.login_viewers}
    return next((role for role, names in roles.items() if groups.intersection(separated(names))), None)


def provider(of: AirflowSettings) -> dict[str, Any]:
    """The provider as OAUTH_PROVIDERS lists it."""
    return {
        "name": PROVIDER,
        "icon": "fa-key",
        "token_key": "access_token",
        "remote_app": {
            "client_cls": client_of(of.login_issuer, f"{of.airflow_pages}/auth/oauth-authorized/{PROVIDER}"),
            "client_id": of.login_client_id,
            "client_secret": of.login_client_secret.get_secret_value(),
            "server_metadata_url": f"{of.login_issuer.rstrip('/')}/.well-known/openid-configuration",
            "client_kwargs": {"scope": of.login_scopes, "code_challenge_method": "S256", "default_timeout": ANSWER_SECONDS},
        },
    }


def client_of(issuer: str, returns_to: str) -> type[FlaskOAuth2App]:
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


def security_manager(of: AirflowSettings) -> type[FabAirflowSecurityManagerOverride]:
    """Airflow's security manager with these settings."""

    class SecurityManager(FabAirflowSecurityManagerOverride):
        def get_oauth_user_info(self, provider: str, resp: dict[str, Any]) -> dict[str, Any]:
            """Raises KeyError if the answer has no ID token that was valid."""
            claims = with_groups(resp["userinfo"], of.login_groups_claim, self.oauth_remotes[provider].userinfo)
            return {
                "username": f"{_PREFIX}{claims[of.login_name_claim]}",
                "first_name": str(claims.get("given_name") or claims.get("name") or claims.get("preferred_username") or ""),
                "last_name": str(claims.get("family_name") or ""),
                "role": role_of(of, claims),
            }

        def auth_user_oauth(self, userinfo: dict[str, Any], rotate_session_id: bool = True) -> Any:
            name, role = userinfo["username"], userinfo["role"]
            known = self.find_user(username=name)
            if role:
                if not known:
                    self.add_user(name, userinfo["first_name"], userinfo["last_name"], _mail(name), self.find_role(role))
                user = super().auth_user_oauth(userinfo, rotate_session_id)
                _forget(user)
                return user
            if known:
                known.roles = []
                self.update_user(known)
                _forget(known)
            return abort(make_response(_REFUSAL, 403, {"Content-Type": "text/plain; charset=utf-8"}))

        def auth_user_db(self, username: str, password: str, rotate_session_id: bool = True) -> Any:
            """Whoever logs in by the provider has no password: one that they gave themselves would outlive their groups."""
            found = super().auth_user_db(username, password, rotate_session_id)
            return None if found and found.username.startswith(_PREFIX) else found

        def sync_roles(self) -> None:
            """At each start. The password of the environment always applies."""
            super().sync_roles()
            password = of.airflow_password.get_secret_value()
            if user := self.find_user(username=PROGRAMS):
                self.reset_password(user.id, password)
            else:
                self.add_user(PROGRAMS, "Programs", "", _mail(PROGRAMS), self.find_role("Admin"), password=password)

        def _oauth_calculate_user_roles(self, userinfo: dict[str, Any]) -> list[Any]:
            return [self.find_role(userinfo["role"])]

    return SecurityManager


def with_groups(identity: Claims, groups_claim: str, userinfo: Callable[[], Claims]) -> Claims:
    """The claims of an ID token. A provider may tell the groups at its userinfo endpoint only, which must speak of the same person."""
    if groups_claim in identity:
        return identity
    more = userinfo()
    if more["sub"] != identity["sub"]:
        raise OAuthError(description="the provider's userinfo endpoint answers for another person than the one who has logged in")
    return {**more, **identity}


def _mail(account: str) -> str:
    """An address that nobody has: Airflow wants one of its own for each account."""
    return f"{account}@tidemark.localdomain"


def _forget(user: Any) -> None:
    """What Airflow remembers of a user. Without this, former roles would apply for another half a minute."""
    if user:
        cast("FabAuthManager", get_auth_manager()).cache.pop(user.id, None)
