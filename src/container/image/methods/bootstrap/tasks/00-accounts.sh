# $USERS is a file of "name:password" lines.
set -eu
ln -sf /bin/busybox /sbin/init
while IFS= read -r line; do
    name=${line%%:*}
    id "$name" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$name"
done <"$USERS"
chpasswd -c SHA512 <"$USERS"
