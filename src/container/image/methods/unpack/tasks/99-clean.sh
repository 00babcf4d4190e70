set -eu
/bin/busybox rm -rf /usr/share/doc /usr/share/man /usr/share/locale /usr/share/lintian
