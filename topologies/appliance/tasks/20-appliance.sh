set -eu
chown -R 33:33 /var/www
printf 'HVAC-210 \n\n' >/etc/issue.net
echo 'HVAC-210 controller, firmware 1.4.2' >/etc/motd
