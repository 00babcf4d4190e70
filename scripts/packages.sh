#!/usr/bin/env bash
# Installs what building, running, testing or demonstrating honeyweave needs and this machine lacks.
#
#   scripts/packages.sh [--check] GROUP...     groups: build run demo test compare (each includes those before it)
#
# With APT, and as root or with sudo without a password, it installs. Elsewhere it prints the command
# that would, and fails. Nothing that is there already is touched. --check only says what is missing.
set -euo pipefail

# What shows that it is there; the groups; and the package on Debian, Fedora, Arch, openSUSE.
# `-` is: no package of its own, or none known.
table() {
    cat <<'TABLE'
cmd:cc                         build  gcc               gcc              gcc            gcc
cmd:make                       build  make              make             make           make
header:lxc/lxccontainer.h      build  lxc-dev           lxc-devel        lxc            liblxc-devel
lib:libclang                   build  libclang-dev      clang-devel      clang          clang-devel
cmd:lxc-start                  run    lxc               lxc              lxc            lxc
cmd:mmdebstrap                 run    mmdebstrap        mmdebstrap       mmdebstrap     -
cmd:mkfs.ext4                  run    e2fsprogs         e2fsprogs        e2fsprogs      e2fsprogs
cmd:dpkg-deb                   run    dpkg              dpkg             dpkg           dpkg
cmd:ip                         run    iproute2          iproute          iproute2       iproute2
file:/etc/ssl/certs            run    ca-certificates   ca-certificates  ca-certificates ca-certificates
cmd:fping                      demo   fping             fping            fping          fping
cmd:nmap                       demo   nmap              nmap             nmap           nmap
cmd:curl                       demo   curl              curl             curl           curl
cmd:ssh                        demo   openssh-client    openssh-clients  openssh        openssh-clients
cmd:sshpass                    demo   sshpass           sshpass          sshpass        sshpass
cmd:jq                         demo   jq                jq               jq             jq
file:/usr/lib/python3/dist-packages/fastjsonschema demo python3-fastjsonschema python3-fastjsonschema python-fastjsonschema python3-fastjsonschema
cmd:ping                       test   iputils-ping      iputils          iputils        iputils
cmd:arping                     test   iputils-arping    iputils          iputils        iputils
cmd:arp-fingerprint            test   arp-scan          arp-scan         arp-scan       -
cmd:traceroute                 test   traceroute        traceroute       traceroute     traceroute
cmd:tcpdump                    demo   tcpdump           tcpdump          tcpdump        tcpdump
cmd:tshark                     test   tshark            wireshark-cli    wireshark-cli  wireshark
cmd:iperf3                     test   iperf3            iperf3           iperf3         iperf
cmd:busybox                    test   busybox-static    busybox          busybox        busybox-static
cmd:rsync                      test   rsync             rsync            rsync          rsync
cmd:nc                         test   netcat-openbsd    netcat           openbsd-netcat netcat-openbsd
cmd:p0f                        test   p0f               p0f              p0f            p0f
cmd:pgrep                      demo   procps            procps-ng        procps-ng      procps
cmd:ethtool                    test   ethtool           ethtool          ethtool        ethtool
cmd:python3                    demo   python3           python3          python         python3
cmd:dnsmasq                    test   dnsmasq-base      dnsmasq          dnsmasq        dnsmasq
cmd:dig                        test   bind9-dnsutils    bind-utils       bind           bind-utils
cmd:nmblookup                  test   samba-common-bin  samba-client     smbclient      samba-client
cmd:openssl                    test   openssl           openssl          openssl        openssl
cmd:skopeo                     test   skopeo            skopeo           skopeo         skopeo
cmd:umoci                      test   umoci             -                umoci          umoci
cmd:apparmor_parser            test   apparmor          -                apparmor       apparmor-parser
cmd:telnet                     test   inetutils-telnet  telnet           inetutils      telnet
cmd:telnetd                    test   inetutils-telnetd telnet-server    inetutils      telnet-server
cmd:redis-server               test   redis-server      redis            redis          redis
cmd:redis-cli                  test   redis-tools       redis            redis          redis
cmd:mariadb                    test   mariadb-client    mariadb          mariadb-clients mariadb-client
cmd:mariadbd                   test   mariadb-server    mariadb-server   mariadb        mariadb
cmd:psql                       test   postgresql-client postgresql       postgresql     postgresql
cmd:asciinema                  test   asciinema         asciinema        asciinema      asciinema
cmd:age                        test   age               age              age            age
cmd:sshd                       test   openssh-server    openssh-server   openssh        openssh-server
cmd:dropbear                   test   dropbear-bin      dropbear         dropbear       dropbear
cmd:hydra                      test   hydra             hydra            hydra          hydra
cmd:ncrack                     test   ncrack            ncrack           ncrack         ncrack
cmd:plink                      test   putty-tools       putty            putty          putty
file:/usr/lib/python3/dist-packages/paramiko test python3-paramiko python3-paramiko python-paramiko python3-paramiko
cmd:rsyslogd                   test   rsyslog           rsyslog          -              rsyslog
file:/usr/share/doc/rsyslog-gnutls test rsyslog-gnutls rsyslog-gnutls - rsyslog-module-gtls
file:/usr/lib/python3/dist-packages/pip test python3-pip python3-pip     python-pip     python3-pip
cmd:nginx                      test   nginx-light       nginx            nginx          nginx
cmd:apache2                    test   apache2-bin       -                -              -
cmd:git                        test   git               git              git            git
cmd:suricata                   test   suricata          suricata         suricata       suricata
cmd:zstd                       test   zstd              zstd             zstd           zstd
cmd:ovs-vswitchd               compare openvswitch-switch openvswitch    openvswitch    openvswitch
cmd:vde_plug2tap               compare vde2             vde2             vde2           vde2
TABLE
}

check=
[ "${1:-}" != --check ] || { check=1; shift; }
[ $# -gt 0 ] || { echo "usage: $0 [--check] build|run|demo|test|compare..." >&2; exit 2; }

rank() {
    case $1 in
        build) echo 1 ;;
        run) echo 2 ;;
        demo) echo 3 ;;
        test) echo 4 ;;
        compare) echo 5 ;;
        *) echo "there is no group \`$1\`" >&2; exit 2 ;;
    esac
}
wanted=0
for group in "$@"; do
    r=$(rank "$group")
    [ "$r" -le "$wanted" ] || wanted=$r
done

# Programs of the superuser are not on everyone's path.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

is_there() {
    local what=${1#*:} found
    case $1 in
        cmd:*) command -v "$what" >/dev/null ;;
        header:*) [ -e "/usr/include/$what" ] || [ -e "/usr/local/include/$what" ] ;;
        file:*) [ -e "$what" ] ;;
        lib:*)
            [ -z "${LIBCLANG_PATH:-}" ] || return 0
            # The names that bindgen looks for; libclang-cpp.so is another library.
            for found in {/usr/lib*,/usr/lib/*,/usr/lib/llvm*/lib,/usr/local/lib}/"$what"{,-[0-9]*}.so*; do
                [ ! -e "$found" ] || return 0
            done
            return 1
            ;;
    esac
}

missing=()
packages=()
column=0 install=
if command -v apt-get >/dev/null; then
    column=1 install="apt-get install -y --no-install-recommends"
elif command -v dnf >/dev/null; then
    column=2 install="dnf install -y"
elif command -v pacman >/dev/null; then
    column=3 install="pacman -S --needed"
elif command -v zypper >/dev/null; then
    column=4 install="zypper install -y"
fi
while read -r probe group debian fedora arch suse; do
    [ "$(rank "$group")" -le "$wanted" ] || continue
    ! is_there "$probe" || continue
    missing+=("${probe#*:}")
    names=(- "$debian" "$fedora" "$arch" "$suse")
    [ "${names[column]}" = - ] || packages+=("${names[column]}")
done < <(table)

[ ${#missing[@]} -gt 0 ] || exit 0
echo "missing on this machine: ${missing[*]}" >&2
if [ -n "$check" ] || [ "$column" != 1 ]; then
    if [ "$column" = 0 ]; then
        echo "no package manager that is known here (apt, dnf, pacman, zypper); install them and try again" >&2
    else
        echo "to install it:  sudo $install ${packages[*]}" >&2
    fi
    exit 1
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root=(sudo)
    else
        echo "installing needs root; run:  sudo $install ${packages[*]}" >&2
        exit 1
    fi
fi
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" </dev/null >&2
}

has_candidate() { [[ $(apt-cache policy "$1") =~ Candidate:\ [^\(] ]]; }

# What a release of Debian's lacks (suricata in bookworm), from its backports. They are not added to the machine's sources.
from_backports() {
    local place suite dir key=/usr/share/keyrings/debian-archive-keyring.gpg
    read -r place suite < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Label: Debian' |
        grep -v -- '-[a-z]*$')
    dir=$(mktemp -d)
    mkdir -p "$dir/lists/partial"
    chmod 755 "$dir"
    for suite in "$suite" "$suite-backports"; do
        echo "deb [signed-by=$key] $place $suite main"
    done >"$dir/sources.list"
    local only=(-o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$dir/lists")
    apt "${only[@]}" update
    apt "${only[@]}" install -y --no-install-recommends -t "$suite" "$@"
    rm -r "$dir"
}

echo "installing: ${packages[*]}" >&2
usual=() elsewhere=()
for again in '' again; do
    usual=() elsewhere=()
    for package in "${packages[@]}"; do
        if has_candidate "$package"; then usual+=("$package"); else elsewhere+=("$package"); fi
    done
    [ ${#elsewhere[@]} -gt 0 ] && [ -z "$again" ] || break
    apt update
done
if [ ${#usual[@]} -gt 0 ] && ! apt install -y --no-install-recommends "${usual[@]}"; then
    echo "once more with fresh package lists" >&2
    apt update
    apt install -y --no-install-recommends "${usual[@]}"
fi
[ ${#elsewhere[@]} -eq 0 ] || from_backports "${elsewhere[@]}"
