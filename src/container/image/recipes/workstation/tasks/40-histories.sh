# What people typed on their working days, with the times at which bash keeps it (HISTTIMEFORMAT).
set -eu

# history USER DAYS: commands on standard input, spread over so many days until yesterday.
history() {
    file=$(getent passwd "$1" | cut -d: -f6)/.bash_history
    lines=$(mktemp)
    cat >"$lines"
    count=$(wc -l <"$lines")
    now=$(date +%s)
    number=0
    while IFS= read -r line; do
        day=$((now / 86400 - 1 - $2 * (count - 1 - number) / count))
        # Nobody works on a Saturday or a Sunday; day 0 was a Thursday.
        case $(((day + 4) % 7)) in
            6) day=$((day - 1)) ;;
            0) day=$((day - 2)) ;;
        esac
        # Between 7:50 and 16:10, the later in a day the later in the list.
        at=$((day * 86400 + 28200 + (number * 7919) % 1500 + (number % 20) * 1500))
        printf '#%s\n%s\n' "$at" "$line"
        number=$((number + 1))
    done <"$lines" >"$file"
    rm "$lines"
    chown "$1:$1" "$file"
    chmod 600 "$file"
    touch -d yesterday "$file"
    echo "export HISTTIMEFORMAT='%F %T '" >>"$(dirname "$file")/.bashrc"
}

history plindner 120 <<'LINES'
ssh web1
ssh db1
df -h
cd notes
nano servers.txt
ssh-copy-id root@web1
~/bin/sync-web.sh
sudo apt update
sudo apt upgrade
ping 10.0.0.14
ssh scanner@10.0.0.14
psql -h 10.0.0.12 -U dba customers
sudo nano /etc/cron.d/sync
tail sync.log
ssh db1
history | grep rsync
rsync -a backup@10.0.0.9::nightly/ /tmp/restore/
ls -l /tmp/restore
rm -r /tmp/restore
nano todo.txt
w
sudo su -
ssh web1 'openssl x509 -enddate -noout -in /etc/ssl/certs/web1.pem'
nano ~/notes/todo.txt
LINES
history akrause 60 <<'LINES'
ls
cd Documents
nano offer-kranich.txt
lp offer-kranich.txt
passwd
cp offer-kranich.txt offer-seidel.txt
rm offer-seidel.txt
ls -l
exit
LINES
history root 90 <<'LINES'
apt update && apt upgrade -y
visudo
adduser akrause
usermod -aG sudo plindner
systemctl restart cron
crontab -l
last
find / -xdev -size +100M
less /var/log/auth.log
exit
LINES
