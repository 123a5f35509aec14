"""Runs the API server: `python -m tidemark.ingest.api`. On SIGTERM it finishes the open requests, then flushes the producers."""

from __future__ import annotations

import logging
import signal
import sys

import uvicorn
from pydantic import ValidationError

from tidemark.ingest.api.app import application
from tidemark.settings import describe_errors, settings

log = logging.getLogger("tidemark.api")

MAX_CONNECTIONS = 500  # well below the usual limit of 1,024 open files per process


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        of = settings()
    except ValidationError as error:
        for line in describe_errors(error):
            log.error(line)
        return 1
    # The server re-raises the signal that stopped it; that must not end this process before it returns its exit status.
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
            http="h11",  # the only one of its parsers that limits the size of headers
            limit_concurrency=MAX_CONNECTIONS,
            # A batch may wait this long for a slot, and again for Kafka.
            timeout_graceful_shutdown=2 * of.api_acknowledge_seconds + 10,
        )
    )
    try:
        server.run()
    except SystemExit:
        log.error("cannot listen on %s:%d: set TIDEMARK_API_PORT to a free port", of.api_host, of.api_port)
        return 1
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
