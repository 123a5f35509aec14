"""The API's answers against its own OpenAPI document, on requests that schemathesis makes from it, right ones and wrong ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.apis import api
from support.places import Place

from tidemark.settings import CHECKOUT

pytestmark = pytest.mark.servers


def schemathesis(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "tests"), "SCHEMATHESIS_HOOKS": "support.schemathesis_hooks"}
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json", "--no-color", "--continue-on-failure"]
    # That a number or a boolean may also come as text the document says in words; `assert_oracle_agrees` checks what is refused, exactly.
    checks = ["--checks", "all", "--exclude-checks", "negative_data_rejection"]
    return subprocess.run([*command, *checks, *arguments], env=environment, cwd=folder, capture_output=True, text=True)


def check(folder: Path, *arguments: str) -> None:
    with api() as running:
        done = schemathesis(running.url, folder, "--phases", "examples,coverage,fuzzing", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "7 selected / 7 total" in done.stdout
        assert "Traceback" not in running.text()


def test_answers_conform_to_the_openapi_document(place: Place, tmp_path: Path) -> None:
    check(tmp_path, "--max-examples", "10", "--seed", "1")


@pytest.mark.soak(proof="api")
@pytest.mark.timeout(1800)
def test_many_more_answers_conform_to_the_openapi_document(place: Place, tmp_path: Path) -> None:
    check(tmp_path, "--max-examples", "500")
