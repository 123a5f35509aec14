#!/bin/sh
# Starts nginx with proxy.conf. Options: PROXY_LISTEN_AIRFLOW, PROXY_LISTEN_SUPERSET and PROXY_LISTEN_API (ADDRESS:PORT); PROXY_HEALTH_PORT;
# PROXY_AIRFLOW, PROXY_SUPERSET and PROXY_API, where these are; PROXY_CONNECTIONS, the most of one address; PROXY_CERTIFICATE, the folder of
# certificate.pem and key.pem; PROXY_RESOLVER, the name server; PROXY_FOLDER, for sockets and bodies. PROXY_DIRECTIVES come before the file's.
set -eu
for FILE in certificate.pem key.pem; do
    if ! [ -r "$PROXY_CERTIFICATE/$FILE" ]; then
        echo "the proxy cannot start: $PROXY_CERTIFICATE/$FILE cannot be read. Service certificate puts it there." >&2
        exit 1
    fi
done
umask 077
rm -rf "$PROXY_FOLDER" # sockets that a killed one has left
mkdir -p "$PROXY_FOLDER"
sed -e "s|@FOLDER@|$PROXY_FOLDER|g" \
    -e "s|@CERTIFICATE@|$PROXY_CERTIFICATE|g" \
    -e "s|@CONNECTIONS@|$PROXY_CONNECTIONS|g" \
    -e "s|@RESOLVER@|$PROXY_RESOLVER|g" \
    -e "s|@LISTEN_AIRFLOW@|$PROXY_LISTEN_AIRFLOW|g" \
    -e "s|@LISTEN_SUPERSET@|$PROXY_LISTEN_SUPERSET|g" \
    -e "s|@LISTEN_API@|$PROXY_LISTEN_API|g" \
    -e "s|@HEALTH_PORT@|$PROXY_HEALTH_PORT|g" \
    -e "s|@AIRFLOW@|$PROXY_AIRFLOW|g" \
    -e "s|@SUPERSET@|$PROXY_SUPERSET|g" \
    -e "s|@API@|$PROXY_API|g" \
    "$(dirname "$0")/proxy.conf" >"$PROXY_FOLDER/nginx.conf"
exec nginx -e stderr -p "$PROXY_FOLDER" -c "$PROXY_FOLDER/nginx.conf" -g "daemon off; ${PROXY_DIRECTIVES:-}"
