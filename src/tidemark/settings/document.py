"""docs/settings.md, from the settings: `python -m tidemark.settings.document` writes it."""

from __future__ import annotations

from tidemark.settings.sections import CHECKOUT, SECTIONS, Section, own_fields

FILE = CHECKOUT / "docs" / "settings.md"
HEAD = """# Settings

Every setting is an environment variable. An empty variable means the default. An invalid value, or values that contradict each other,
stop every program with a message that names the variable.

<!-- Written by `python -m tidemark.settings.document` from src/tidemark/settings/sections.py. -->
"""


def text() -> str:
    return "\n".join([HEAD, *map(_table, SECTIONS)])


def _table(section: type[Section]) -> str:
    rows = [_row(section, name) for name in own_fields(section)]
    return "\n".join([f"## {section.__doc__}", "", "| variable | default | |", "| --- | --- | --- |", *rows, ""])


def _row(section: type[Section], name: str) -> str:
    field = section.model_fields[name]
    default = ".tidemark" if name == "home" else str(field.get_default(call_default_factory=True) or "")
    return f"| `TIDEMARK_{name.upper()}` | {f'`{default}` ' if default and field.annotation is not bool else ''}| {field.description} |"


if __name__ == "__main__":
    FILE.write_text(text())
