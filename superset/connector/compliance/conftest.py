"""SQLAlchemy's test plugin with a MongoDB server for this run: `make compliance`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import pytest  # noqa: E402
from pipe_server import server  # noqa: E402
from sqlalchemy.dialects import registry  # noqa: E402
from sqlalchemy.testing.plugin import pytestplugin  # noqa: E402
from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: E402, F403

registry.register("mongopipe.fixture", "fixture_dialect", "FixtureDialect")

_SERVER = server()

_NOT_APPLICABLE = {
    "mongopipe does not write": r"ReturningGuardsTest|TableViaSelectTest|test_integrity_error|test_(render_)?literal|test_get_view_names"
    r"|test_insert_from_select",
    "every collection has a column _id": r"NameDenormalizeTest",
    "MongoDB names the indexes": r"HasIndexTest|LongNameBlowoutTest|test_get_(multi_|noncol_)?index",
    "MongoDB has no comments on columns and no foreign keys": r"test_get_multi_columns|test_get_foreign_keys",
    "MongoDB has no such type": r"UuidTest|test_pickle_roundtrip|CastTypeDecoratorTest",
    "WITH RECURSIVE is not supported": r"test_select_recursive",
    "a scalar subquery must return at most one row": r"test_row_w_scalar_select",
    "literals with a decimal point are doubles": r"TrueDivTest.*numeric",
    "reflection caches the schema": r"test_has_table_cache",
}


def pytest_configure(config: pytest.Config) -> None:
    """Starts a server for the plugin, unless the command line names another."""
    if not config.option.dburi:
        url = _SERVER.__enter__()
        config.option.dburi = [url.replace("mongodb://", "mongopipe+fixture://") + "/mongopipe_compliance"]
    pytestplugin.pytest_configure(config)


def pytest_unconfigure() -> None:
    """Stops the server."""
    _SERVER.__exit__(None, None, None)


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips tests that do not apply, with the reason."""
    pytestplugin.pytest_collection_modifyitems(session, config, items)
    for item in items:
        for reason, pattern in _NOT_APPLICABLE.items():
            if re.search(pattern, item.nodeid):
                item.add_marker(pytest.mark.skip(reason=reason))
