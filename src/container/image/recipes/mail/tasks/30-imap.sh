set -eu
cat >/etc/dovecot/conf.d/99-local.conf <<'CONF'
mail_location = maildir:~/Maildir
disable_plaintext_auth = no
ssl = no
protocols = imap
listen = *
log_path = /var/log/dovecot.log
# A container has 512 MB.
default_vsz_limit = 128 M
CONF
# Where the accounts' deliveries go, too.
while IFS=: read -r name _; do
    [ "$name" != root ] || continue
    home=$(getent passwd "$name" | cut -d: -f6)
    install -d -m 700 -o "$name" -g "$name" "$home/Maildir" "$home/Maildir/cur" "$home/Maildir/new" "$home/Maildir/tmp"
done <"$USERS"
