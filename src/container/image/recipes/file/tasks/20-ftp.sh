set -eu
# Namespaces of its own and filters of system calls, which vsftpd would add, are refused in a container.
cat >/etc/vsftpd.conf <<'CONF'
listen=YES
listen_ipv6=NO
background=NO
anonymous_enable=YES
no_anon_password=YES
anon_root=/srv/ftp
local_enable=YES
write_enable=YES
local_umask=022
xferlog_enable=YES
xferlog_file=/var/log/vsftpd.log
connect_from_port_20=YES
pam_service_name=vsftpd
secure_chroot_dir=/run/vsftpd/empty
isolate=NO
isolate_network=NO
seccomp_sandbox=NO
use_localtime=YES
CONF
mkdir -p /srv/ftp
chmod 755 /srv/ftp
