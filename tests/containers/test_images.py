"""The Dockerfiles: linted, made by the commands that `make run` uses, of files that there are."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from support import compose

from tidemark.settings import CHECKOUT

DOCKERFILES = sorted((CHECKOUT / "containers").glob("*.Dockerfile"))


def instructions(file: Path, name: str) -> list[str]:
    return [line["value"] for line in DockerfileParser(path=str(file), cache_content=True).structure if line["instruction"] == name]


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def is_in_build_context(path: str) -> bool:
    """Does .dockerignore let a file into the build? The last line that names it, or a folder that it is in, decides."""
    names = ["/".join(path.split("/")[:count]) for count in range(1, path.count("/") + 2)]
    found = True
    for line in (CHECKOUT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            patterns = (pattern, pattern.removeprefix("**/")) if pattern.startswith("**/") else (pattern,)
            if any(name.count("/") == one.count("/") and fnmatch.fnmatch(name, one) for name in names for one in patterns):
                found = line.startswith("!")
    return found


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_the_linter_finds_no_problem(file: Path) -> None:
    done = subprocess.run([str(Path(sys.executable).with_name("hadolint")), str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_every_copied_path_exists_and_is_not_ignored(file: Path) -> None:
    copied = [value.split() for value in instructions(file, "COPY") if not value.startswith("--from")]
    assert copied
    for *sources, _ in copied:
        for source in sources:
            files = [name for name in tracked() if source == "." or name == source or name.startswith(f"{source}/")]
            assert any(is_in_build_context(name) for name in files), source


def test_the_build_context_contains_only_what_runs() -> None:
    names = {name for name in tracked() if is_in_build_context(name)}
    folders = {name.split("/")[0] for name in names}
    assert folders == {
        *("dags", "ingest", "plugins", "spark", "src", "superset"),
        *("LICENSE", "README.md", "pyproject.toml", "requirements.lock", "requirements-setup.lock", "setup.sh"),
    }
    assert not [name for name in names if re.search(r"(^|/)(tests|bench|compliance)/", name)]
    assert not is_in_build_context(".env")
    assert not is_in_build_context(".git/config")
    assert not is_in_build_context(".venv/bin/python")
    assert "superset/connector/mongopipe/dialect.py" in names


def test_images_are_installed_by_the_steps_of_make_run() -> None:
    script = (CHECKOUT / "setup.sh").read_text()
    (parts,) = re.findall(r"^run\)\n((?:    \w+\n)+)", script, re.MULTILINE)
    run = [command for file in DOCKERFILES for command in instructions(file, "RUN")]
    installed = re.findall(r"sh setup\.sh (\w+)", "\n".join(run))
    assert sorted([*installed, "mongodb"]) == sorted(parts.split()), "MongoDB has an image of its own"
    assert not re.findall(r"pip install|uv pip", "\n".join(run))
    assert all("--require-hashes" in line for line in re.findall(r".*pip install.*-r .*", script))


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_stages_share_one_pinned_base_and_do_not_run_as_root(file: Path) -> None:
    bases = [value.partition(" AS ")[0] for value in instructions(file, "FROM")]
    assert len(bases) > 1
    assert {base for base in bases if base != "base"} == {"python:3.11-slim-bookworm"}
    assert instructions(file, "USER") == ["10001"]
    made = re.findall(r"--uid (\d+)", "\n".join(instructions(file, "RUN")))
    assert made == ["10001"]


def test_each_volume_is_owned_by_the_user_that_writes_it() -> None:
    """A named volume that is new gets the owner of the folder in the image: one that the image does not have would be root's."""
    for service in compose.services(compose.filled_example()).values():
        if service.dockerfile:
            run = "\n".join(instructions(service.dockerfile, "RUN"))
            made = {folder for line in re.findall(r"mkdir -p ([^&\\]+)", run) for folder in line.split()}
            assert {volume.target for volume in service.volumes if not volume.source.startswith(".")} <= made


def test_each_image_contains_its_health_and_entry_scripts() -> None:
    assert [file.name for file in DOCKERFILES] == ["superset.Dockerfile", "tidemark.Dockerfile"]
    for file in DOCKERFILES:
        assert compose.image(file).command[0] in ("python", "gunicorn")
        assert compose.image(file).environment["PATH"].startswith("/opt/tidemark/.venv/")
