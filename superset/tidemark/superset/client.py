"""A client for Superset's API, logged in with one of its accounts."""

from __future__ import annotations

from typing import Any

import requests

ANSWER_SECONDS = 120


class SupersetError(Exception):
    """Superset answered with an error."""


class Client:
    """Methods raise SupersetError if Superset answers with an error, requests.RequestException if it does not answer."""

    def __init__(self, url: str, account: str, password: str) -> None:
        self._url, self._http = f"{url}/api/v1", requests.Session()
        self._http.trust_env = False  # Superset is local or in this network: use no proxy
        self._http.headers.update({"Referer": url})
        login = {"username": account, "password": password, "provider": "db", "refresh": False}
        self._http.headers.update({"Authorization": f"Bearer {self.post('/security/login', json=login).json()['access_token']}"})
        self._http.headers.update({"X-CSRFToken": self.get("/security/csrf_token/").json()["result"]})

    def get(self, path: str) -> requests.Response:
        return self._answer(self._http.get(f"{self._url}{path}", timeout=ANSWER_SECONDS))

    def post(self, path: str, **given: Any) -> requests.Response:
        # A post without a valid CSRF token is redirected to a page.
        return self._answer(self._http.post(f"{self._url}{path}", timeout=ANSWER_SECONDS, allow_redirects=False, **given))

    def _answer(self, answer: requests.Response) -> requests.Response:
        for cookie in self._http.cookies:
            cookie.secure = False  # within its network Superset is reached without TLS, also where its cookies are for browsers with TLS
        if not answer.ok or answer.is_redirect:
            raise SupersetError(f"Superset answered {answer.status_code} to {answer.request.method} {answer.url}: {answer.text[:2_000]}")
        return answer
