"""Gunicorn's configuration for Superset: listens on SUPERSET_ADDRESS (HOST:PORT) with SUPERSET_WORKERS processes."""

import os

bind = os.environ["SUPERSET_ADDRESS"]
worker_class = "gthread"
workers = int(os.environ.get("SUPERSET_WORKERS") or 2)
threads = 12  # per worker; with few, slow charts would block the rest of a page
timeout = 120
keepalive = 30
control_socket_disable = True
