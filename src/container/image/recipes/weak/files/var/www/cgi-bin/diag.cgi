#!/bin/sh
# FG-200 diagnostics
. /etc/diag/settings
printf 'Content-Type: text/plain\r\n\r\n'
host=$(printf '%s' "$QUERY_STRING" | sed 's/^.*host=//; s/&.*//')
host=$(httpd -d "$host")
echo "FG-200: ping $host"
sh -c "ping -c 1 -W 1 $host" 2>&1
