"""The certificate of the proxy in Compose: the one that is given, or a self-signed one, and what is refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.wording import Wording

from tidemark.local import certificate
from tidemark.local.certificate import CERTIFICATE, KEY, UnusableCertificate, provide
from tidemark.settings import Settings

NOW = datetime.now(UTC)


def test_a_self_signed_one_is_kept_until_its_end_is_near_or_the_names_change(configure: Callable[..., Settings], tmp_path: Path) -> None:
    of = configure(home=str(tmp_path), airflow_public_url="https://tidemark.example.com:8080")
    folder = provide(of, NOW)
    first = (folder / CERTIFICATE).read_text()
    assert (folder / KEY).stat().st_mode & 0o077 == 0
    provide(of, NOW + timedelta(days=certificate.VALID_DAYS - certificate.RENEWED_DAYS - 2))
    assert (folder / CERTIFICATE).read_text() == first
    provide(of, NOW + timedelta(days=certificate.VALID_DAYS - certificate.RENEWED_DAYS))
    second = (folder / CERTIFICATE).read_text()
    assert second != first
    provide(configure(home=str(tmp_path), trusted_hosts="another.example.com"), NOW)
    assert (folder / CERTIFICATE).read_text() != second


def test_the_one_that_is_given_is_used(configure: Callable[..., Settings], tmp_path: Path) -> None:
    given = provide(configure(home=str(tmp_path / "given"), trusted_hosts="given.example.com"), NOW)
    folder = provide(configure(home=str(tmp_path), certificates=str(given)), NOW)
    assert folder != given
    assert [(folder / name).read_text() for name in (CERTIFICATE, KEY)] == [(given / name).read_text() for name in (CERTIFICATE, KEY)]


@pytest.mark.parametrize("wrong", ["no key", "another key", "expired"])
def test_an_unusable_one_is_refused(configure: Callable[..., Settings], tmp_path: Path, wrong: str, wording: Wording) -> None:
    given = provide(configure(home=str(tmp_path / "given")), NOW - timedelta(days=2_000 if wrong == "expired" else 0))
    if wrong == "no key":
        (given / KEY).unlink()
    if wrong == "another key":
        other = provide(configure(home=str(tmp_path / "other")), NOW)
        (given / KEY).write_text((other / KEY).read_text())
    with pytest.raises(UnusableCertificate) as refused:
        provide(configure(home=str(tmp_path), certificates=str(given)), NOW)
    said = re.sub(r"expired at .* UTC", "expired at DATE UTC", str(refused.value))
    wording.check(said.replace(str(given), "/certificates"), wrong)


def test_the_command_says_that_it_is_self_signed(tmp_path: Path, wording: Wording) -> None:
    environment = {**os.environ, "TIDEMARK_HOME": str(tmp_path), "TIDEMARK_CERTIFICATES": "/certificates"}
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "tidemark.local.certificate"], env=environment, capture_output=True, text=True, check=True
        )
        said.append(done.stdout[24:])
    wording.check("".join(said))
