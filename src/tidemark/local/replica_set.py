"""MongoDB of this machine as a replica set of one node, which transactions need; with accounts where it asks for them."""

from __future__ import annotations

import time
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tidemark.serving import accounts
from tidemark.serving.database import Document
from tidemark.settings import settings

ADMINISTRATOR = "admin"

_NOT_YET_INITIALIZED, _ALREADY_INITIALIZED, _AUTHENTICATION_FAILED = 94, 23, 18  # MongoDB's error codes
_PRIMARY_SECONDS = 30.0


def replica_set() -> None:
    """Makes the local MongoDB, which asks nobody for a password, a replica set at the port it has. Does nothing where that is so."""
    with _client() as client:
        _initiate(client, f"127.0.0.1:{settings().mongodb_port}")


def with_accounts() -> None:
    """The same of one that asks for accounts, and brings those to what the settings say. Only from its own machine: as long as it has
    no account, MongoDB lets nobody else make the first. Raises PyMongoError.
    """
    of = settings()
    host, password = of.mongodb_advertised or f"127.0.0.1:{of.mongodb_port}", of.mongodb_admin_password.get_secret_value()
    try:
        with _client(password) as client:
            client.admin.command("ping")
    except OperationFailure as failure:
        if failure.code != _AUTHENTICATION_FAILED:
            raise
        with _client() as client:
            _initiate_unseen(client, host)
            _wait_for_primary(client)
            client.admin.command("createUser", ADMINISTRATOR, pwd=password, roles=["root"])
    with _client(password) as client:
        _initiate(client, host)
        _wait_for_primary(client)
        accounts.bring(client.admin, of.database, accounts.passwords())


def _client(password: str = "") -> MongoClient[Document]:
    login: dict[str, Any] = {"username": ADMINISTRATOR, "password": password, "authSource": "admin"} if password else {}
    url = f"mongodb://127.0.0.1:{settings().mongodb_port}/?directConnection=true"
    return MongoClient(url, serverSelectionTimeoutMS=5_000, **login)


def _initiate(client: MongoClient[Document], host: str) -> None:
    """Its only node is reached at that host, also where it was another before."""
    try:
        configuration = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as failure:
        if failure.code != _NOT_YET_INITIALIZED:
            raise
        client.admin.command("replSetInitiate", _of_one(host))
        return
    if configuration["members"][0]["host"] != host:
        configuration["members"][0]["host"] = host
        configuration["version"] += 1
        client.admin.command("replSetReconfig", configuration, force=True)


def _initiate_unseen(client: MongoClient[Document], host: str) -> None:
    """The same for who has no account yet: that one may not look whether it has been done."""
    try:
        client.admin.command("replSetInitiate", _of_one(host))
    except OperationFailure as failure:
        if failure.code != _ALREADY_INITIALIZED:
            raise


def _of_one(host: str) -> Document:
    return {"_id": "tidemark", "members": [{"_id": 0, "host": host}]}


def _wait_for_primary(client: MongoClient[Document]) -> None:
    until = time.monotonic() + _PRIMARY_SECONDS
    while not client.admin.command("hello")["isWritablePrimary"] and time.monotonic() < until:
        time.sleep(0.1)
