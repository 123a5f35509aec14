"""Sets up MongoDB on this machine as a replica set of one node, which transactions require, and its accounts if it uses them."""

from __future__ import annotations

import time
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tidemark.serving import accounts
from tidemark.serving.database import Document
from tidemark.settings.sections import MongodbSettings

ADMINISTRATOR = "admin"

_NOT_YET_INITIALIZED, _ALREADY_INITIALIZED, _AUTHENTICATION_FAILED = 94, 23, 18  # MongoDB's error codes
_PRIMARY_SECONDS = 30.0


def replica_set(port: int) -> None:
    """Makes the local MongoDB, which has no accounts, a replica set at its port. Idempotent."""
    with _client(port) as client:
        _initiate(client, f"127.0.0.1:{port}")


def with_accounts(of: MongodbSettings) -> None:
    """The same for a MongoDB that requires accounts; creates or updates the accounts of the settings. Works only on MongoDB's own machine,
    because only from there can the first account be created. Raises PyMongoError.
    """
    host, password = of.mongodb_advertised or f"127.0.0.1:{of.mongodb_port}", of.mongodb_admin_password.get_secret_value()
    try:
        with _client(of.mongodb_port, password) as client:
            client.admin.command("ping")
    except OperationFailure as failure:
        if failure.code != _AUTHENTICATION_FAILED:
            raise
        with _client(of.mongodb_port) as client:
            _initiate_unseen(client, host)
            _wait_for_primary(client)
            client.admin.command("createUser", ADMINISTRATOR, pwd=password, roles=["root"])
    with _client(of.mongodb_port, password) as client:
        _initiate(client, host)
        _wait_for_primary(client)
        accounts.update(client.admin, of.database, accounts.passwords(of))


def _client(port: int, password: str = "") -> MongoClient[Document]:
    login: dict[str, Any] = {"username": ADMINISTRATOR, "password": password, "authSource": "admin"} if password else {}
    url = f"mongodb://127.0.0.1:{port}/?directConnection=true"
    return MongoClient(url, serverSelectionTimeoutMS=5_000, **login)


def _initiate(client: MongoClient[Document], host: str) -> None:
    """Initiates the replica set, or changes the host of its only node."""
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
    """Initiates the replica set without an account, which may not read whether that has been done already."""
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
