"""The README's table of supported SQL: every example runs and is compared, and the README has the current table."""

from __future__ import annotations

import pytest
from fuzz_mongopipe import Bench, differences, normal, same
from support_table import FEATURES, README, Feature, written


@pytest.mark.server
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_feature(bench: Bench, feature: Feature) -> None:
    for sql in feature.queries:
        found = [tuple(map(normal, row)) for row in bench.pipe.cursor().execute(sql).fetchall()]
        expected = [tuple(map(normal, row)) for row in bench.duck.execute(sql).fetchall()]
        assert same(found, expected), f"{sql}\n{differences(found, expected)}"


def test_the_readme_shows_the_table() -> None:
    assert README.read_text() == written()
