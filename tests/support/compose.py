"""docker-compose.yaml as Compose reads it: variables filled in from a .env file, each service with its image's own environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from dockerfile_parse import DockerfileParser
from dotenv import dotenv_values

from tidemark.settings import CHECKOUT

FILE, EXAMPLE = CHECKOUT / "docker-compose.yaml", CHECKOUT / ".env.example"
_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<how>[-?])(?P<word>[^}]*))?\})")


class NotSet(Exception):
    """Compose refuses to start: says which variable is missing, and what the file says of it."""


class Volume(NamedTuple):
    source: str
    target: str


class Image(NamedTuple):
    """What a Dockerfile's last stage leaves."""

    environment: Mapping[str, str]
    folder: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Service:
    name: str
    definition: Mapping[str, Any]
    dockerfile: Path | None  # of an image that is built here

    @property
    def image(self) -> Image | None:
        return image(self.dockerfile) if self.dockerfile else None

    @property
    def command(self) -> list[str]:
        return [*self.definition.get("entrypoint", ()), *self.definition.get("command", ())]

    @property
    def passed(self) -> dict[str, str]:
        """The environment that the file passes."""
        return {name: str(value) for name, value in self.definition.get("environment", {}).items()}

    @property
    def needs(self) -> dict[str, str]:
        """By service the condition that it must meet before."""
        return {name: one["condition"] for name, one in self.definition.get("depends_on", {}).items()}

    @property
    def health(self) -> list[str]:
        """The command of its health check; empty where it has none."""
        kind, *words = self.definition.get("healthcheck", {}).get("test", [""])
        return ["sh", "-c", *words] if kind == "CMD-SHELL" else words

    @property
    def ends(self) -> bool:
        """Is it done when it has ended?"""
        return self.definition["restart"] != "unless-stopped"

    @property
    def volumes(self) -> list[Volume]:
        return [Volume(*re.sub(":ro$", "", text).rsplit(":", 1)) for text in self.definition.get("volumes", ())]


def filled_example(secret: str = "s3cret") -> dict[str, str]:
    """.env.example with a secret on each line that has none."""
    return {name: value if _has_value(name) else f"{secret}{name.replace('_', '').lower()}" for name, value in example().items()}


def example() -> dict[str, str]:
    return {name: value or "" for name, value in dotenv_values(EXAMPLE).items()}


def secrets() -> set[str]:
    """Names of what .env.example has no value for."""
    return {name for name in example() if not _has_value(name)}


def _has_value(name: str) -> bool:
    return f"\n{name}=\n" not in EXAMPLE.read_text()


def variables() -> dict[str, set[str]]:
    """By name the ways in which the file uses each variable: `-` with a default, `?` refusing to start without, empty neither."""
    found: dict[str, set[str]] = {}
    for text in _texts(yaml.safe_load(FILE.read_text())):
        for match in _VARIABLE.finditer(text):
            if match["name"]:
                found.setdefault(match["name"], set()).add(match["how"] or "")
    return found


def services(environment: Mapping[str, str]) -> dict[str, Service]:
    """Raises NotSet."""
    definition = filled(yaml.safe_load(FILE.read_text()), environment)
    files = {one["image"]: CHECKOUT / one["build"]["dockerfile"] for one in definition["services"].values() if "build" in one}
    return {name: Service(name, one, files.get(one["image"])) for name, one in definition["services"].items()}


def of_profile(profile: str, environment: Mapping[str, str]) -> dict[str, Service]:
    """The services that one profile starts."""
    return {name: one for name, one in services(environment).items() if profile in one.definition.get("profiles", [profile])}


@cache
def image(dockerfile: Path) -> Image:
    parser = DockerfileParser(path=str(dockerfile), cache_content=True)
    environment: dict[str, str] = {}
    folder, command = "/", ""
    bases: dict[str, str] = {}
    for line in parser.structure:
        value = line["value"]
        match line["instruction"]:
            case "FROM":
                base, _, name = value.partition(" AS ")
                environment, folder, command = {}, bases.get(base, "/"), ""
            case "WORKDIR":
                folder = value
                bases[name] = folder
            case "ENV":
                environment = dict(pair.split("=", 1) for pair in value.split())
            case "CMD":
                command = value
    return Image(environment, folder, tuple(yaml.safe_load(command)))


def filled(value: Any, environment: Mapping[str, str]) -> Any:
    """A part of the file with its variables filled in. Raises NotSet."""
    if isinstance(value, dict):
        return {name: filled(one, environment) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one, environment) for one in value]
    return _VARIABLE.sub(lambda match: _value(match, environment), value) if isinstance(value, str) else value


def _value(match: re.Match[str], environment: Mapping[str, str]) -> str:
    if match["name"] is None:
        return "$"
    given = environment.get(match["name"], "")
    if not given and match["how"] == "?":
        raise NotSet(f"{match['name']}: {match['word']}")
    return given or match["word"] or ""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield value
