"""MongoDB's accounts, one for each part of the stack, each with the least privileges that its work needs.

`python -m tidemark.serving.accounts` creates them in an external MongoDB, using the account of TIDEMARK_MONGODB_URL and the passwords of
the settings.

All may read the whole database and write only the collections listed here; `reports` writes none. `reports` cannot be restricted to the
report views: mongopipe's pipelines use $documents, for which MongoDB requires read access to the whole database.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from tidemark.serving.database import Document, brief, connect
from tidemark.settings import settings
from tidemark.settings.sections import MongodbSettings

# The collections that each account writes. All write `state`: the ledger, the desired state of the stream, the end of the log.
WRITES: Mapping[str, tuple[str, ...]] = {
    "ingest": ("state", "ingestion", "ingestion_chunk", "withdrawn_posts", "quarantine", "alert", "size"),
    "stream": ("state", "product", "category", "quarantine", "cube_cell", "stream_minute"),
    "batch": (
        *("state", "ingestion", "product", "category", "quarantine", "cube_cell"),
        *("publication", "publication_cell", "cut_cell", "verification", "history", "history_day"),
    ),
}
REPORTS = "reports"
_WRITING = ["insert", "update", "remove"]

_NO_SUCH_ROLE, _NO_SUCH_USER = 31, 11  # MongoDB's error codes


def update(admin: Database[Document], database: str, passwords: Mapping[str, str]) -> None:
    """Creates the accounts and their roles in database admin, or updates existing ones, including their passwords.

    Raises PyMongoError.
    """
    for account, password in passwords.items():
        role = f"{database}_{account}"
        rights = [{"resource": {"db": database, "collection": name}, "actions": _WRITING} for name in WRITES.get(account, ())]
        _create_or_update(admin, "Role", role, _NO_SUCH_ROLE, privileges=rights, roles=[{"role": "read", "db": database}])
        _create_or_update(admin, "User", account, _NO_SUCH_USER, pwd=password, roles=[role])


def passwords(of: MongodbSettings) -> dict[str, str]:
    """The passwords of the settings, by account."""
    return {name: getattr(of, f"mongodb_{name}_password").get_secret_value() for name in (*WRITES, REPORTS)}


def _create_or_update(admin: Database[Document], what: str, name: str, missing: int, **given: Any) -> None:
    try:
        admin.command(f"update{what}", name, **given)
    except OperationFailure as failure:
        if failure.code != missing:
            raise
        admin.command(f"create{what}", name, **given)


def main() -> int:
    of = settings()
    if missing := [name for name, password in passwords(of).items() if not password]:
        sys.stdout.write(f"passwords are missing: set {', '.join(f'TIDEMARK_MONGODB_{name.upper()}_PASSWORD' for name in missing)}\n")
        return 1
    try:
        with connect(of.mongodb) as client:
            update(client.admin, of.database, passwords(of))
    except PyMongoError as error:
        sys.stdout.write(f"MongoDB: {brief(error)}\n")
        return 1
    sys.stdout.write(f"accounts {', '.join(passwords(of))} are ready for database {of.database}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
