# Keys are made at the build: no two installations share one.
set -eu
home=/home/plindner/.ssh
install -d -m 700 -o plindner -g plindner "$home"
ssh-keygen -q -t ed25519 -N '' -C plindner@ws07 -f "$home/id_ed25519"
scratch=$(mktemp -d)
for host in web1,10.0.0.11 db1,10.0.0.12 fs2,10.0.0.14; do
    ssh-keygen -q -t ed25519 -N '' -f "$scratch/key"
    echo "$host $(cut -d' ' -f1,2 "$scratch/key.pub")" >>"$home/known_hosts"
    rm "$scratch/key" "$scratch/key.pub"
done
rmdir "$scratch"
cat >"$home/config" <<'CONF'
Host web1
    HostName 10.0.0.11
    User root
Host db1
    HostName 10.0.0.12
    User dba
CONF
chmod 600 "$home/config" "$home/known_hosts"
chown -R plindner:plindner "$home"
touch -d '300 days ago' "$home/id_ed25519" "$home/id_ed25519.pub"
touch -d '63 days ago' "$home/known_hosts" "$home/config"
