"""A lease: one holder at a time. It only avoids duplicate work: correctness does not depend on it, and losing it unnoticed is safe."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pymongo import ReturnDocument
from pymongo.database import Database
from pymongo.errors import PyMongoError

from tidemark.serving.database import Document

BATCH, BATCH_SECONDS = "batch", 900.0  # lease of all commands that change the raw history or publications, and how long they wait for it
VALID_SECONDS = 30
RENEW_EVERY_SECONDS = 8.0
POLL_SECONDS = 1.0

log = logging.getLogger(__name__)


def this_process(role: str) -> str:
    """A holder's name: the work, and the process and thread that do it."""
    return f"{role} (process {os.getpid()}, thread {threading.get_native_id()} on {socket.gethostname()})"


class Busy(Exception):
    """Another process holds the lease."""


@contextmanager
def lease(database: Database[Document], name: str, holder: str, within_seconds: float) -> Iterator[None]:
    """Holds the lease while inside; holders have unique names. Waits that long for it, then raises Busy.

    The lease expires soon after its holder has died.
    """
    until = time.monotonic() + within_seconds
    while not _acquire(database, name, holder):
        if time.monotonic() > until:
            found = database.state.find_one({"_id": _key(name)}) or {}
            since = f" since {found['since']:%Y-%m-%d %H:%M} UTC" if "since" in found else ""
            raise Busy(f"{found.get('holder', 'another process')} has been running{since}: wait until it ends, or stop it")
        time.sleep(POLL_SECONDS)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(database, name, holder, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        database.state.delete_one({"_id": _key(name), "holder": holder})


def _acquire(database: Database[Document], name: str, holder: str) -> bool:
    """Expiry is decided by MongoDB's clock alone."""
    acquired = {"holder": holder, "since": "$$NOW", "until": {"$add": ["$$NOW", VALID_SECONDS * 1000]}}
    is_held = {"$gte": ["$until", "$$NOW"]}
    now = database.state.find_one_and_update(
        {"_id": _key(name)},
        [{"$replaceWith": {"$cond": [is_held, "$$ROOT", {"_id": "$_id", **acquired}]}}],
        upsert=True,
        return_document=ReturnDocument.AFTER,
    )
    return now is not None and now["holder"] == holder


def _renew(database: Database[Document], name: str, holder: str, ended: threading.Event) -> None:
    longer = [{"$set": {"until": {"$add": ["$$NOW", VALID_SECONDS * 1000]}}}]
    while not ended.wait(RENEW_EVERY_SECONDS):
        try:
            if not database.state.update_one({"_id": _key(name), "holder": holder}, longer).matched_count:
                log.warning("lease %s was taken by another process; both continue, which is safe", name)
                return
        except PyMongoError as error:
            log.warning("lease %s could not be renewed: %s", name, error)


def _key(name: str) -> str:
    return f"lease {name}"
