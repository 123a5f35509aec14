"""Files of wording hold no text that no test asserts any more."""

from __future__ import annotations

import pytest
from support.wording import FOLDER, read, written

TESTS = FOLDER.parent


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.txt")), ids=lambda file: file.stem)
def test_each_text_belongs_to_a_test(file) -> None:
    texts = read(file)
    assert file.read_text() == written(texts), "make wording writes it in order"
    for name in texts:
        stem, _, test = name.partition("::")
        code = (TESTS / file.stem / f"{stem}.py").read_text()
        assert f"def {test.split('[')[0].split(' ')[0]}(" in code, name
