"""What README.md says can be typed and set is what there is."""

from __future__ import annotations

import re

from tidemark.settings import CHECKOUT, Settings

README = (CHECKOUT / "README.md").read_text()


def test_every_setting_is_in_the_table_and_nothing_else() -> None:
    def row(name: str) -> str:
        field = Settings.model_fields[name]
        default = ".tidemark" if name == "home" else str(field.get_default(call_default_factory=True) or "")
        return f"| `TIDEMARK_{name.upper()}` | {f'`{default}` ' if default else ''}| {field.description} |"

    rows = [line for line in README.splitlines() if line.startswith("| `TIDEMARK_")]
    assert rows == [row(name) for name in Settings.model_fields]


def test_every_make_target_it_names_is_one() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", README)) | set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))
    assert "run" in named
    assert named <= targets


def test_every_file_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (CHECKOUT / target).exists(), target
