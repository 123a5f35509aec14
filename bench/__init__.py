"""Benchmarks, each a module: `python -m bench.csv_to_kafka`. `python -m bench` runs all and writes a table.

What is compared is measured in turns in one run, so that the machine's other work hits both sides alike. Servers are started as the
tests start theirs, on free ports, and removed at the end.
"""

import sys

from tidemark.settings import CHECKOUT

sys.path.append(str(CHECKOUT / "tests"))  # for tests/support
