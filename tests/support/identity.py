"""An identity provider on loopback (OpenID Connect), which registers clients and logs in whoever is asked for; and a person's browser."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any
from urllib.parse import quote

import httpx
from oidc_provider_mock import app
from werkzeug.serving import BaseWSGIServer, make_server

ADMINS, OPERATORS, VIEWERS = "catalog admins", "operators", "/viewers"


@dataclass
class Provider:
    """A running provider. `issues_as` is another issuer that its tokens name, for tests of what must be refused."""

    url: str
    issues_as: str = ""
    takes_secret_for_wrong: bool = False
    issued: int = 0  # tokens
    http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=30))

    def client(self, *redirect_uris: str) -> dict[str, str]:
        """Settings of a Tidemark that is a new client of this provider."""
        body = {"redirect_uris": redirect_uris, "token_endpoint_auth_method": "client_secret_basic"}
        client = self.http.post(f"{self.url}/oauth2/clients", json=body).raise_for_status().json()
        return {
            "login_issuer": self.url,
            "login_client_id": client["client_id"],
            "login_client_secret": client["client_secret"],
            "login_admins": f"owners, {ADMINS}",
            "login_operators": OPERATORS,
            "login_viewers": VIEWERS,
        }

    def knows(self, person: str, *groups: str, **claims: Any) -> None:
        """Who is in which groups from now on."""
        body = {"name": person.capitalize(), "groups": groups, **claims}
        self.http.put(f"{self.url}/users/{quote(person)}", json=body).raise_for_status()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        def counting(status: str, *more: Any) -> Any:
            self.issued += environ["PATH_INFO"] == "/oauth2/token" and status.startswith("200")
            return start_response(status, *more)

        if environ["PATH_INFO"] == "/oauth2/token":
            if self.issues_as:
                environ["HTTP_HOST"] = self.issues_as
            if self.takes_secret_for_wrong:
                client, _, _ = b64decode(environ["HTTP_AUTHORIZATION"].removeprefix("Basic ")).partition(b":")
                environ["HTTP_AUTHORIZATION"] = f"Basic {b64encode(client + b':another').decode()}"
        return self._app(environ, counting)

    def __post_init__(self) -> None:
        self._app = app(require_client_registration=True)


@contextmanager
def running_provider() -> Iterator[Provider]:
    provider = Provider("")
    server: BaseWSGIServer = make_server("localhost", 0, provider, threaded=True)
    provider.url = f"http://localhost:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        provider.http.close()


class Browser(httpx.Client):
    """Somebody's browser: cookies are kept, redirects are followed. As in browsers, loopback counts as secure."""

    def __init__(self) -> None:
        super().__init__(trust_env=False, timeout=60, follow_redirects=True, event_hooks={"response": [self._take_loopback_for_secure]})

    def _take_loopback_for_secure(self, _: httpx.Response) -> None:
        for cookie in self.cookies.jar:
            cookie.secure = False

    def consent(self, login: str, person: str) -> httpx.Response:
        """What the provider answers when this person logs in there: a redirect back to the page that asks for it."""
        form = self.get(login)
        return self.post(form.url, data={"sub": person}, follow_redirects=False)

    def log_in(self, login: str, person: str) -> httpx.Response:
        """The page that this person comes to, beginning at an application's link to the provider."""
        return self.get(self.consent(login, person).headers["Location"])
