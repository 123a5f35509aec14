"""A client for Superset's API, logged in with one of its accounts."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
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
        # Within its network it is reached without TLS, also where its cookies are for browsers that use TLS.
        self._http.cookies.set_policy(DefaultCookiePolicy(secure_protocols=("http", "https")))
        self._http.headers.update({"Referer": url})
        login = {"username": account, "password": password, "provider": "db", "refresh": False}
        self._http.headers.update({"Authorization": f"Bearer {self.post('/security/login', json=login).json()['access_token']}"})
        self._http.headers.update({"X-CSRFToken": self.get("/security/csrf_token/").json()["result"]})

    def get(self, path: str) -> requests.Response:
        return self._answer(self._http.get(f"{self._url}{path}", timeout=ANSWER_SECONDS))

    def post(self, path: str, **given: Any) -> requests.Response:
        return self._answer(self._http.post(f"{self._url}{path}", timeout=ANSWER_SECONDS, **given))

    @staticmethod
    def _answer(answer: requests.Response) -> requests.Response:
        if not answer.ok:
            raise SupersetError(f"Superset answered {answer.status_code} to {answer.request.method} {answer.url}: {answer.text[:2_000]}")
        return answer
