#!/bin/sh
# Starts Redis as a cache without persistence, with LRU eviction. Options: REDIS_PASSWORD, REDIS_ADDRESS and REDIS_PORT.
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
