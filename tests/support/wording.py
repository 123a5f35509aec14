"""What people read, asserted once: a test names a text, and a file in tests/wording/ says what it is.

All other assertions are about types, codes and stored values, so that a sentence can be made better by `make wording` and a look at
the difference. A file holds a folder's texts in the order of their names:

    [test_layouts::test_a_missing_column]
    the text, in one line or several

"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tidemark.settings import settings

FOLDER = Path(__file__).parents[1] / "wording"
OPTION = "--update-wording"

_NAME = re.compile(r"^\[(\S+::[^\n]+)\]$", re.MULTILINE)


class Wording:
    """Compares texts with those of a folder's file; with --update-wording it writes them there."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._file = FOLDER / f"{request.path.parent.name}.txt"
        self._name = f"{request.path.stem}::{request.node.name}"
        self._folders = [str(request.getfixturevalue("tmp_path"))] if "tmp_path" in request.fixturenames else []
        self._update = bool(request.config.getoption(OPTION))

    def check(self, text: str, label: str = "", **shown_as: object) -> None:
        """Asserts that the text is the one of this test, and of the label where it has several.

        What differs from run to run is replaced before: the test's folder, names and addresses of the settings, and each value that is
        given, e.g. `run=identity` by <run>.
        """
        name = f"{self._name} {label}".rstrip()
        found = self._plain(text, shown_as)
        known = read(self._file)
        if self._update:
            self._file.parent.mkdir(exist_ok=True)
            self._file.write_text(written({**known, name: found}))
            return
        assert name in known, f"{self._file.name} has no text of this name: make wording writes it\n{found}"
        assert found == known[name]

    def _plain(self, text: str, shown_as: Mapping[str, object]) -> str:
        now = settings()
        found = [(str(value), f"<{name}>") for name, value in shown_as.items()]
        found += [(folder, "<folder>") for folder in self._folders]
        found += [(now.product_topic, "<product topic>"), (now.category_topic, "<category topic>"), (now.database, "<database>")]
        found += [(now.kafka, "<kafka>"), (now.mongodb, "<mongodb>"), (str(now.home), "<home>")]
        for value, name in found:
            if value and value not in ("ingest-product", "ingest-category", "tidemark"):
                text = text.replace(value, name)
        return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def read(file: Path) -> dict[str, str]:
    """The texts of a file by name."""
    return dict(_cases(file.read_text())) if file.exists() else {}


def _cases(content: str) -> Iterator[tuple[str, str]]:
    starts = list(_NAME.finditer(content))
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        yield start[1], content[start.end() : end.start() if end else None].strip("\n")


def written(texts: Mapping[str, str]) -> str:
    return "\n".join(f"[{name}]\n{texts[name]}\n" for name in sorted(texts))
