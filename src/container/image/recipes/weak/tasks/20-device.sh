set -eu
chown -R 33:33 /var/www
echo 'FG-200 \n' >/etc/issue
echo 'Facility Gateway FG-200, firmware 2.1.7' >/etc/motd
