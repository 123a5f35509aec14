"""Keycloak on loopback, which Ivy fetches from Maven Central once, with a realm of a few people; and how somebody logs in there."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from support.identity import Browser
from support.stacks import until

from tidemark.settings import java
from tidemark.spark import log_stores

VERSION = "26.7.3"
SHA256 = "27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f"
REALM, CLIENT, SECRET, PASSWORD = "shop", "tidemark", "a-secret-of-the-client", "a-password"
START_SECONDS = 300.0
_IVY = f"""<ivy-module version="2.0"><info organisation="tidemark" module="tests"/><dependencies>
<dependency org="org.keycloak" name="keycloak-quarkus-dist" rev="{VERSION}" transitive="false">
<artifact name="keycloak-quarkus-dist" type="zip" ext="zip"/></dependency></dependencies></ivy-module>"""
# Told at the userinfo endpoint only; oidc-provider-mock tells them in the ID token as well.
_GROUPS = {
    "name": "groups",
    "protocol": "openid-connect",
    "protocolMapper": "oidc-group-membership-mapper",
    "config": {"claim.name": "groups", "full.path": "true", "id.token.claim": "false", "userinfo.token.claim": "true"},
}


@dataclass
class Keycloak:
    url: str

    @property
    def settings(self) -> dict[str, str]:
        """Settings of the client; groups have the full path that Keycloak gives them by default."""
        return {
            "login_issuer": f"{self.url}/realms/{REALM}",
            "login_client_id": CLIENT,
            "login_client_secret": SECRET,
            "login_admins": "/admins",
            "login_operators": "/operators",
            "login_viewers": "/viewers",
            "login_name_claim": "preferred_username",
        }

    @staticmethod
    def log_in(link: str, person: str) -> tuple[Browser, httpx.Response]:
        """The browser of a person who has given their password there, and the page that it came to."""
        browser = Browser()
        form = browser.get(link)
        (action,) = re.findall(r'<form[^>]*action="([^"]+)"', form.text)
        return browser, browser.post(html.unescape(action), data={"username": person, "password": PASSWORD})


@contextmanager
def running_keycloak(people: Mapping[str, Sequence[str]], redirect_uris: Sequence[str], port: int) -> Iterator[Keycloak]:
    """With these people, each in groups."""
    with tempfile.TemporaryDirectory(prefix="tidemark-keycloak-") as folder, zipfile.ZipFile(_distribution()) as packed:
        packed.extractall(folder)
        home = Path(folder) / f"keycloak-{VERSION}"
        (home / "data" / "import").mkdir(parents=True)
        (home / "data" / "import" / "realm.json").write_text(json.dumps(_realm(people, redirect_uris)))
        log = Path(folder) / "log"
        command = ["sh", str(home / "bin" / "kc.sh"), "start-dev", "--import-realm", "--http-host=127.0.0.1", f"--http-port={port}"]
        environment = {name: value for name, value in os.environ.items() if name != "JAVA_TOOL_OPTIONS"}  # it chooses a collector itself
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            found = Keycloak(f"http://127.0.0.1:{port}")
            discovery = f"{found.url}/realms/{REALM}/.well-known/openid-configuration"
            answers = lambda: process.poll() is not None or httpx.get(discovery, trust_env=False).is_success  # noqa: E731
            until(answers, "Keycloak answers", log.read_text, START_SECONDS)
            assert process.poll() is None, log.read_text()
            yield found
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def _realm(people: Mapping[str, Sequence[str]], redirect_uris: Sequence[str]) -> dict[str, object]:
    client = {"clientId": CLIENT, "secret": SECRET, "redirectUris": redirect_uris, "protocolMappers": [_GROUPS]}
    return {
        "realm": REALM,
        "enabled": True,
        "groups": [{"name": name} for name in sorted({name for groups in people.values() for name in groups})],
        "clients": [client],
        "users": [
            {
                **{"username": name, "firstName": name.capitalize(), "lastName": "Shop", "email": f"{name}@shop.example"},
                **{"enabled": True, "emailVerified": True, "groups": [f"/{group}" for group in groups]},
                "credentials": [{"type": "password", "value": PASSWORD}],
            }
            for name, groups in people.items()
        ],
    }


def _distribution() -> Path:
    """Keycloak as its makers pack it, which the environment keeps."""
    kept = Path(sys.prefix) / "share" / "tidemark" / f"keycloak-{VERSION}.zip"
    if not kept.is_file():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "ivy.xml").write_text(_IVY)
            ivy = [java(), "-jar", str(next(log_stores.pyspark_jars().glob("ivy-*.jar"))), "-cache", f"{folder}/cache"]
            pattern = f"{folder}/[artifact]-[revision].[ext]"
            subprocess.run([*ivy, "-ivy", f"{folder}/ivy.xml", "-types", "zip", "-retrieve", pattern], check=True, capture_output=True)
            fetched = Path(folder) / f"keycloak-quarkus-dist-{VERSION}.zip"
            assert hashlib.sha256(fetched.read_bytes()).hexdigest() == SHA256
            kept.write_bytes(fetched.read_bytes())
    return kept
