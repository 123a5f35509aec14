"""`make test`: the stack's tests on two workers, and beside them the tests of what lives in Superset's environment.

`WORKERS=1` in the environment takes one; arguments go to the stack's pytest, e.g. `--durations 30`.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from soak import CHECKOUT, CONNECTOR

VENV = Path(sys.prefix)
STACK = (sys.executable, "-m", "pytest", "-m", "not soak", "-n", os.environ.get("WORKERS", "2"), "--dist", "loadscope")
PARALLEL = (
    (*CONNECTOR, "TARGETS=test"),
    (str(VENV / "superset" / "bin" / "python"), "-m", "pytest", "superset/tests"),
)


def main() -> int:
    with tempfile.TemporaryFile("w+") as output:
        script = " && ".join(map(shlex.join, PARALLEL))
        beside = subprocess.Popen(["sh", "-c", script], cwd=CHECKOUT, stdout=output, stderr=output)
        try:
            status = subprocess.run([*STACK, *sys.argv[1:]], cwd=CHECKOUT).returncode
            print("==> waiting for the tests of the connector and of Superset's configuration", flush=True)
            beside.wait()
        finally:
            beside.terminate()
        output.seek(0)
        lines = output.read().splitlines()
    if beside.returncode:
        print("\n".join(lines))
    for line in lines:
        if " passed" in line or " failed" in line:
            print(f"connector and Superset: {line.strip('= ')}")
    return status or beside.returncode


if __name__ == "__main__":
    sys.exit(main())
