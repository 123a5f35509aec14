#!/bin/sh
# Starts MongoDB as a member of replica set tidemark, with accounts.
# MONGODB_KEY is the key shared by the members; MONGODB_ADDRESS, MONGODB_PORT, MONGODB_FOLDER and MONGODB_CACHE_GB are its options.
set -eu
: "${MONGODB_KEY:?set it to a secret}"
KEY=$MONGODB_FOLDER/keyfile
umask 077
rm -f "$KEY"
# Converts any text to a key of characters that MongoDB accepts.
printf %s "$MONGODB_KEY" | sha256sum | cut -c1-64 >"$KEY"
unset MONGODB_KEY
exec mongod --dbpath "$MONGODB_FOLDER" --bind_ip "$MONGODB_ADDRESS" --port "$MONGODB_PORT" --nounixsocket --quiet \
    --replSet tidemark --keyFile "$KEY" --wiredTigerCacheSizeGB "$MONGODB_CACHE_GB"
