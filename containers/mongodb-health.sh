#!/bin/bash
# Does MongoDB answer? To a browser it says what it is, which needs no account and no client.
exec 3<>"/dev/tcp/127.0.0.1/$MONGODB_PORT"
printf 'GET / HTTP/1.0\r\n\r\n' >&3
grep -q MongoDB <&3
