#!/bin/sh
# Becomes a Redis that keeps nothing on disk and drops the oldest answers. REDIS_PASSWORD, REDIS_ADDRESS and REDIS_PORT are the environment's.
set -eu
: "${REDIS_PASSWORD:?set it to a secret}"
exec redis-server - <<END
bind $REDIS_ADDRESS
port $REDIS_PORT
requirepass $REDIS_PASSWORD
save ""
appendonly no
maxmemory 256mb
maxmemory-policy allkeys-lru
END
