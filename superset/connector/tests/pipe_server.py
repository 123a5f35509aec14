"""A MongoDB server for the tests: the one that MONGOPIPE_TEST_URL names, or a new replica set of one node."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError


def _mongod() -> str:
    """Returns the path of a server: MONGOPIPE_MONGOD, or the server in the Python package, or the one on PATH."""
    packaged = Path(sysconfig.get_path("purelib"), "fiftyone", "db", "bin", "mongod")
    found = os.environ.get("MONGOPIPE_MONGOD") or (packaged if packaged.exists() else shutil.which("mongod"))
    if not found:
        raise RuntimeError("no MongoDB server: set MONGOPIPE_TEST_URL or MONGOPIPE_MONGOD, or install the extra 'test'")
    if Path(found) == packaged:
        packaged.chmod(0o755)
    return str(found)


def free_port() -> int:
    """Returns a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server() -> Iterator[str]:
    """Yields the URL of a server, without a database: mongodb://host:port"""
    given = os.environ.get("MONGOPIPE_TEST_URL")
    if given:
        yield given.rstrip("/")
        return
    port = free_port()
    folder = tempfile.mkdtemp(prefix="mongopipe-")
    arguments = ["--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket", "--replSet", "mongopipe"]
    with Path(folder, "mongod.log").open("wb") as log:
        process = subprocess.Popen([_mongod(), *arguments, "--wiredTigerCacheSizeGB", "0.25", "--quiet"], stdout=log, stderr=log)
    try:
        _initiate(port)
        yield f"mongodb://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _initiate(port: int) -> None:
    here = f"127.0.0.1:{port}"
    with MongoClient(f"mongodb://{here}/?directConnection=true", serverSelectionTimeoutMS=30_000) as client:
        client.admin.command("replSetInitiate", {"_id": "mongopipe", "members": [{"_id": 0, "host": here}]})
        for _ in range(300):
            try:
                if client.admin.command("hello")["isWritablePrimary"]:
                    return
            except PyMongoError:
                pass
            time.sleep(0.1)
    raise RuntimeError("the MongoDB server did not become primary within 30 seconds")
