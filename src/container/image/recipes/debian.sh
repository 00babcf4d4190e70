# Runs inside the image as root, by its own shell. $USERS is a file of
# "name:password" lines.
set -eu
ln -sf /bin/busybox /sbin/init
while IFS= read -r line; do
    name=${line%%:*}
    id "$name" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$name"
done <"$USERS"
chpasswd -c SHA512 <"$USERS"
# Every host has keys of its own, which it gets when its container starts.
rm -f /etc/ssh/ssh_host_*
rm -f /etc/motd /etc/machine-id /var/lib/dbus/machine-id
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/log/apt /var/log/bootstrap.log
rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/locale/*
