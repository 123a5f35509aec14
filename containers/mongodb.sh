#!/bin/sh
# Becomes a MongoDB that is a member of replica set tidemark and asks for accounts.
# MONGODB_KEY is what members know each other by, MONGODB_ADDRESS, MONGODB_PORT, MONGODB_FOLDER and MONGODB_CACHE_GB say where and how large.
set -eu
: "${MONGODB_KEY:?set it to a secret}"
KEY=$MONGODB_FOLDER/keyfile
umask 077
rm -f "$KEY"
# Any text becomes a key of the characters that MongoDB takes.
printf %s "$MONGODB_KEY" | sha256sum | cut -c1-64 >"$KEY"
unset MONGODB_KEY
exec mongod --dbpath "$MONGODB_FOLDER" --bind_ip "$MONGODB_ADDRESS" --port "$MONGODB_PORT" --nounixsocket --quiet \
    --replSet tidemark --keyFile "$KEY" --wiredTigerCacheSizeGB "$MONGODB_CACHE_GB"
