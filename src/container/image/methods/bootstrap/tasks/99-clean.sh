set -eu
# Every host has keys of its own, which it gets when its container starts.
rm -f /etc/ssh/ssh_host_*
rm -f /etc/motd /etc/machine-id /var/lib/dbus/machine-id
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/log/apt /var/log/bootstrap.log
rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/locale/*
