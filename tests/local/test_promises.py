"""The table of promises in tests/README.md names tests and proofs that there are, and leaves none of them out."""

from __future__ import annotations

import re
from pathlib import Path

import soak

TESTS = Path(__file__).parents[1]
ROWS = [line.split(" | ") for line in (TESTS / "README.md").read_text().partition("| promise |")[2].splitlines()[2:] if line]
SOAK_ONLY = {
    "stack/test_ingestion_runs.py",
    "stack/test_manual_operations.py",
    "stack/test_nights.py",
    "stack/test_history.py",
    "stack/test_maintenance.py",
}
SOAK_ONLY |= {"stack/test_full_size.py", "containers/test_containers.py", "path/test_withdrawals.py", "stack/test_keycloak.py"}


def test_each_named_test_exists() -> None:
    for promise, proofs, _ in ROWS:
        named = re.findall(r"`([^`]+)`", proofs)
        assert named, promise
        for file, _, test in (one.partition("::") for one in named):
            assert (TESTS / file).is_file(), file
            if test:
                assert f"def {test.rpartition('::')[2]}(" in (TESTS / file).read_text(), test


def test_each_test_file_and_long_form_proves_a_promise() -> None:
    named = {one.partition("::")[0] for _, proofs, _ in ROWS for one in re.findall(r"`([^`]+)`", proofs)}
    assert {str(file.relative_to(TESTS)) for file in TESTS.glob("*/test_*.py")} - named == SOAK_ONLY
    long = {name for *_, last in ROWS for name in re.findall(r"[\w-]+", last)}
    assert long == set(soak.NAMES)
