#!/bin/sh
# Brings the environment: prerequisites checked first, then Python packages by hash, Kafka's and Spark's jars by hash,
# an archive of Spark's classes.
# Usage: sh setup.sh run|dev   (dev adds what `make check` and `make test` need)
# Images are made by parts of run: packages, project, jars and classes, or superset.
set -eu
cd "$(dirname "$0")"
VENV=${VENV:-.venv}
MINIMUM_DISK_MB=6000
MINIMUM_MEMORY_MB=6000

fail() {
    printf '\n%s\n' "Tidemark cannot be set up here: $1" >&2
    exit 1
}

step() {
    printf '%s\n' "==> $1"
}

# Runs a command in one line: what it said last, and for how long it has run. All it has said where it fails.
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
    [ "$STATUS" -eq 0 ] || fail "$1 has ended with status $STATUS; what it said stands above."
    printf '    done after %d s\n' "$(($(date +%s) - STARTED))"
}

[ "$(uname -s)" = Linux ] || fail "it needs Linux, this is $(uname -s). On another system use docker compose."
[ "$(uname -m)" = x86_64 ] || [ -n "${TIDEMARK_MONGODB_URL:-}" ] || fail "its MongoDB is for x86-64, this is $(uname -m). Set TIDEMARK_MONGODB_URL to a replica set of yours."

PYTHON=${PYTHON:-}
if [ -z "$PYTHON" ]; then
    for candidate in python3.11 python3 python; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            PYTHON=$candidate
            break
        fi
    done
fi
[ -n "$PYTHON" ] || fail "there is no Python 3.11. Install it (apt install python3.11 python3.11-venv), or name it: make PYTHON=/path/to/python3.11"
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || fail "$PYTHON has no venv module. Install it (apt install python3.11-venv)."

if [ "$1" != superset ]; then
    JAVA=java
    [ -z "${JAVA_HOME:-}" ] || JAVA=$JAVA_HOME/bin/java
    command -v "$JAVA" >/dev/null 2>&1 || fail "there is no Java. Install Java 17 or newer (apt install openjdk-17-jre-headless), or set JAVA_HOME."
    VERSION=$("$JAVA" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -1)
    [ "${VERSION:-0}" -ge 17 ] || fail "$JAVA is version ${VERSION:-unknown}. Spark needs Java 17 or newer: install it, or set JAVA_HOME."
fi

FREE=$(df -Pm . | awk 'NR == 2 {print $4}')
[ -x "$VENV/bin/python" ] || [ "$FREE" -ge "$MINIMUM_DISK_MB" ] || fail "$FREE MB of disk are free here, it needs $MINIMUM_DISK_MB."
MEMORY=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
[ "$MEMORY" -ge "$MINIMUM_MEMORY_MB" ] || fail "the machine has $MEMORY MB of memory, it needs $MINIMUM_MEMORY_MB."

if [ ! -x "$VENV/bin/python" ]; then
    step "making the environment $VENV"
    "$PYTHON" -m venv "$VENV"
fi
if [ ! -x "$VENV/bin/uv" ]; then
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-setup.lock
fi
install() { # an environment's python and a lock file
    in_a_line "$VENV/bin/uv" pip install --python "$1" --require-hashes --compile-bytecode -r "$2"
}

SUPERSET=$VENV/superset
packages() {
    step "installing Python packages (a minute or two the first time)"
    install "$VENV/bin/python" requirements.lock
    MONGOD=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib") + "/fiftyone/db/bin/mongod")')
    [ ! -f "$MONGOD" ] || chmod +x "$MONGOD"
}
project() {
    "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --no-deps --no-build-isolation --editable .
}
superset() {
    step "installing Superset's, which has an environment of its own (a minute or two the first time)"
    [ -x "$SUPERSET/bin/python" ] || "$PYTHON" -m venv --without-pip "$SUPERSET"
    install "$SUPERSET/bin/python" superset/requirements.lock
    "$VENV/bin/uv" pip install --quiet --python "$SUPERSET/bin/python" --no-deps --no-build-isolation --editable superset/connector
}
jars() {
    step "checking Kafka's and Spark's jars (fetched the first time)"
    in_a_line "$VENV/bin/python" -m tidemark.local.jars
}
classes() {
    step "having Java learn Spark's classes (half a minute), so that every job starts sooner"
    "$VENV/bin/python" -m tidemark.spark.class_archive
}
case $1 in
packages | project | superset | jars | classes)
    "$1"
    ;;
run)
    packages
    project
    superset
    jars
    classes
    ;;
dev)
    step "installing what checks and tests need"
    install "$VENV/bin/python" requirements-dev.lock
    install "$SUPERSET/bin/python" superset/requirements-dev.lock
    ;;
esac
