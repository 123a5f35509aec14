#!/bin/bash
# Health check of MongoDB: it answers HTTP requests with a text that names it, which needs neither an account nor a client.
exec 3<>"/dev/tcp/127.0.0.1/$MONGODB_PORT"
printf 'GET / HTTP/1.0\r\n\r\n' >&3
grep -q MongoDB <&3
