"""Health check of the container: exit status 0 if Superset answers on the port of SUPERSET_ADDRESS."""

import os
import sys
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

ANSWER_SECONDS = 10

try:
    port = os.environ["SUPERSET_ADDRESS"].rpartition(":")[2]
    build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}/health", timeout=ANSWER_SECONDS).read()
except (URLError, OSError) as error:
    sys.exit(f"Superset does not answer: {error}")
