"""How Gunicorn serves Superset, on the address of SUPERSET_ADDRESS (HOST:PORT)."""

import os

bind = os.environ["SUPERSET_ADDRESS"]
worker_class = "gthread"
threads = 24  # few would let pages wait for their parts while charts are slow
timeout = 120
keepalive = 30
control_socket_disable = True
