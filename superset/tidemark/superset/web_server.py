"""How Gunicorn serves Superset: on the address of SUPERSET_ADDRESS (HOST:PORT), by SUPERSET_WORKERS processes."""

import os

bind = os.environ["SUPERSET_ADDRESS"]
worker_class = "gthread"
workers = int(os.environ.get("SUPERSET_WORKERS") or 2)
threads = 12  # of each worker; few would let pages wait for their parts while charts are slow
timeout = 120
keepalive = 30
control_socket_disable = True
