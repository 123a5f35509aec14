"""Serves the API: `python -m ingest.api`. SIGTERM lets the requests under way come to their answers, then flushes the producers."""

from __future__ import annotations

import logging
import signal
import sys

import uvicorn

from ingest.api.app import application
from settings import settings

log = logging.getLogger("tidemark.api")

MOST_CONNECTIONS = 500  # well below the 1,024 files that a process may usually open
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    of = settings()
    if of.api_host not in _LOOPBACK and not of.api_key.get_secret_value():
        log.warning("anybody who reaches %s:%d may post: set TIDEMARK_API_KEY, or TIDEMARK_API_HOST=127.0.0.1", of.api_host, of.api_port)
    # The server raises the signal that ended it once more, which must not end this process before its exit status is known.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    server = uvicorn.Server(
        uvicorn.Config(
            application(of),
            host=of.api_host,
            port=of.api_port,
            log_config=None,
            access_log=False,
            server_header=False,
            http="h11",  # the one of its parsers that bounds a request's headers
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=of.api_acknowledge_seconds + 5,
        )
    )
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
