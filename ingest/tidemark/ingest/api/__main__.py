"""Serves the API: `python -m tidemark.ingest.api`. On SIGTERM it answers the requests under way, then flushes the producers."""

from __future__ import annotations

import logging
import signal
import sys

import uvicorn
from pydantic import ValidationError

from tidemark.ingest.api.app import application
from tidemark.settings import describe_errors, settings

log = logging.getLogger("tidemark.api")

MOST_CONNECTIONS = 500  # well below the 1,024 files that a process may usually open


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        of = settings()
    except ValidationError as error:
        for line in describe_errors(error):
            log.error(line)
        return 1
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
            # A batch may wait that long for a place, and again for Kafka.
            timeout_graceful_shutdown=2 * of.api_acknowledge_seconds + 10,
        )
    )
    try:
        server.run()
    except SystemExit:
        log.error("cannot listen on %s:%d: choose another port with TIDEMARK_API_PORT", of.api_host, of.api_port)
        return 1
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
