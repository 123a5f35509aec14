"""Runs the API server: `python -m tidemark.ingest.api`. On SIGTERM it finishes the open requests, then flushes the producers."""

from __future__ import annotations

import logging
import resource
import signal
import sys

import uvicorn
from pydantic import ValidationError

from tidemark.ingest.api.app import application
from tidemark.ingest.api.limited_connections import protocol
from tidemark.settings import describe_errors, settings

log = logging.getLogger("tidemark.api")

_OTHER_FILES = 3_000  # open files besides connections: connections that are being refused (uvicorn accepts up to 2,048 at once), Kafka's


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        of = settings()
    except ValidationError as error:
        for line in describe_errors(error):
            log.error(line)
        return 1
    _raise_limit_of_open_files(of.api_connections + _OTHER_FILES)
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
            http=protocol(of),
            ws="none",
            limit_concurrency=of.api_connections + 1,  # requests whose clients have gone may still wait for Kafka
            proxy_headers=bool(of.trusted_proxies),
            forwarded_allow_ips=[str(network) for network in of.trusted_proxies],
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


def _raise_limit_of_open_files(needed: int) -> None:
    """As far as the system allows it. The usual soft limit, 1,024, is for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
