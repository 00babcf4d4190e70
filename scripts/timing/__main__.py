"""Asks whether a stopwatch tells emulated hosts, containers and a real machine apart.

An attacker, a real Linux host and a honeynet are on one bridge; the real host runs the programs of the container's
image. Emulated hosts that nobody has spoken to, the same at their tenth contact, a container and the real host are
asked in turn: echo, SYN/ACK, time to the banner, first octet of a page. For each pair stands the area under the ROC
curve of the best single threshold: 0.5 if nothing tells them apart, 1 if everything does. The figures go to
target/timing.json, the distributions to docs/timing.svg with --readme.
"""

import argparse
import ctypes
import json
import os
import socket
import struct
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/compare"))
sys.path.insert(0, str(Path(__file__).parent))

import drawing  # noqa: E402  (the path comes first)
from figures import between_markers  # noqa: E402
from lab import Failed, Lab, attach, in_ns, run, sweep, wait_for  # noqa: E402

ASKED = 0.60
ATTACKER, REAL, LIVE = "10.97.0.2", "10.97.0.3", "10.97.0.4"
# Emulated hosts, one for each first contact, and as many that are spoken to time and again.
FRESH, KNOWN = "10.97.64.0/18", "10.97.1.10-10.97.1.40"
MEASURES = ("echo", "SYN/ACK", "banner", "page")
PAGE = b"<html><body><h1>It works</h1></body></html>\n"
SSH = "SSH-2.0-dropbear_2022.83"

TOPOLOGY = f"""name: timing
templates:
  server:
    personality: linux
    tcp: {{22: {{banner: "{SSH}\\r\\n"}}, 80: {{http: {{pages: {{"/": "It works"}}}}}}}}
  live:
    personality: linux
    tcp: {{22: container, 80: container}}
    backend: {{image: timing, start: with-system, idle: 0}}
images:
  timing: {{recipe: small, users: [{{name: root, password: toor}}]}}
nodes:
  wan: {{kind: uplink, mac_limit: 65536}}
  core: {{kind: switch, ports: 4, fdb_capacity: 65536}}
  fresh: {{kind: hosts, addresses: {FRESH}, template: server, mac: shared, prefix: [10.97.0.0/16]}}
  known: {{kind: hosts, addresses: {KNOWN}, template: server, prefix: [10.97.0.0/16]}}
  live: {{kind: container, address: {LIVE}, template: live, prefix: [10.97.0.0/16]}}
links:
  - endpoints: [wan, "core:1"]
  - endpoints: [fresh, "core:2"]
  - endpoints: [known, "core:3"]
  - endpoints: [live, "core:4"]
"""


def arguments():
    parser = argparse.ArgumentParser(prog="make timing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=500, help="measurements of each kind and host (default 500)")
    parser.add_argument("--wire", default="150us 50us", metavar="'DELAY JITTER'",
                        help="what the attacker's wire, which leads to all of them, adds in each direction, and by how "
                             "much that varies to both sides (default: a small switched Ethernet); `none` for a bare "
                             "veth, which no network is as fast as")
    parser.add_argument("--readme", action="store_true", help="also write docs/timing.svg and the table of README.md")
    parser.add_argument("--out", type=Path, default=ROOT / "target/timing.json")
    parser.add_argument("--honeyweave", metavar="PROGRAM", default=str(ROOT / "target/release/honeyweave"))
    parser.add_argument("--images", metavar="DIRECTORY", default=str(ROOT / "target/compare-state"))
    return parser.parse_args()


def auc(a, b):
    """The area under the ROC curve: how often a time of `b` is longer than one of `a`, or the other way round."""
    ranked = sorted([(x, 0) for x in a] + [(x, 1) for x in b])
    rank_sum, at = 0.0, 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        rank_sum += (at + end + 1) / 2 * sum(which for _, which in ranked[at:end])
        at = end
    area = (rank_sum - len(b) * (len(b) + 1) / 2) / (len(a) * len(b))
    return max(area, 1 - area)


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


class Prober:
    """Runs in the attacker's namespace. Times are in microseconds."""

    def __init__(self):
        self.icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.icmp.settimeout(2)
        self.number = 0

    def echo(self, to):
        self.number = (self.number + 1) & 0xFFFF
        body = struct.pack(">HH", os.getpid() & 0xFFFF, self.number) + bytes(48)
        packet = b"\x08\0" + struct.pack(">H", checksum(b"\x08\0\0\0" + body)) + body
        begin = time.perf_counter_ns()
        self.icmp.sendto(packet, (to, 0))
        while True:
            data, (source, _) = self.icmp.recvfrom(2048)
            end = time.perf_counter_ns()
            if source == to and data[20] == 0 and data[24:28] == body[:4]:
                return (end - begin) / 1000

    @staticmethod
    def connection(to, port):
        """A connection, and how long its handshake took."""
        stream = socket.socket()
        stream.settimeout(5)
        begin = time.perf_counter_ns()
        stream.connect((to, port))
        took = (time.perf_counter_ns() - begin) / 1000
        # No port waits for old segments: thousands of connections begin here.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return stream, took

    def all(self, to):
        """{measure: µs} of one host, once."""
        echo = self.echo(to)
        ssh, handshake = self.connection(to, 22)
        with ssh:
            begin = time.perf_counter_ns()
            if not ssh.recv(256).startswith(b"SSH-2.0-dropbear"):
                raise Failed(f"{to} has another banner")
            banner = (time.perf_counter_ns() - begin) / 1000
        web, _ = self.connection(to, 80)
        with web:
            # As a browser that has read what it was given first.
            begin = time.perf_counter_ns()
            web.sendall(b"GET / HTTP/1.0\r\nHost: " + to.encode() + b"\r\n\r\n")
            if not web.recv(2048).startswith(b"HTTP/1."):
                raise Failed(f"{to} is no web server")
            page = (time.perf_counter_ns() - begin) / 1000
        return dict(zip(MEASURES, (echo, handshake, banner, page)))


def enter(ns):
    file = os.open(f"/run/netns/{ns}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(file, 0) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter {ns}")
    os.close(file)


# Runs a program in a copy of an image that lasts as long as the program does.
IN_IMAGE = """mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root" &&
mount -t proc proc "$2/root/proc" && mount --rbind /dev "$2/root/dev" && cd "$2/root" && shift 2 && exec chroot . "$@"
"""


def real_host(lab, ns, args):
    """The very programs that the container runs, from its image, without a container around them."""
    manifests = json.loads(run(args.honeyweave, "image", "ls", "--json", "--state-dir", args.images))
    image = next(manifest for manifest in manifests if manifest["name"] == "timing")
    root = f"{args.images}/images/timing/{image['hash']}/rootfs"
    key = "/etc/dropbear/dropbear_ed25519_host_key"

    def start(name, *command):
        place = Path(lab.path(name))
        for part in ("upper", "work", "root"):
            (place / part).mkdir(parents=True)
        (place / "upper/www").mkdir()
        (place / "upper/www/index.html").write_bytes(PAGE)
        (place / "upper/etc/dropbear").mkdir(parents=True)
        run("dropbearkey", "-t", "ed25519", "-f", f"{place}/upper{key}")
        lab.spawn(ns, "unshare", "--mount", "sh", "-c", IN_IMAGE, "sh", root, str(place), *command)

    start("sshd", "/usr/sbin/dropbear", "-F", "-p", "22", "-r", key)
    start("httpd", "/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www")


def live_host(lab, ns):
    """Has the container's web server started, through SSH as anybody would."""
    options = (f"-o{key}" for key in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"))
    page = PAGE.decode().strip()
    script = f"mkdir -p /www && echo '{page}' > /www/index.html && busybox httpd -p 80 -h /www"
    command = in_ns(ns, ("sshpass", "-p", "toor", "ssh", "-T", *options, f"root@{LIVE}", script))

    def started():
        try:
            return run(*command, timeout=30) is not None
        except Failed:
            return False

    wait_for("the container", started, 40)


def lay_wire(lab, args, bridge, attacker):
    """A wire with a delay. It is a honeyweave of its own: not every kernel has tc-netem."""
    delay, jitter = args.wire.split()
    link = f"delay: {delay}, jitter: {jitter}"
    file = lab.file("wire.yaml", f"""name: wire
nodes:
  core: {{kind: switch, ports: 2}}
  near: {{kind: tap, interface: near, capture: false}}
  far: {{kind: tap, interface: far, capture: false}}
links:
  - {{endpoints: [near, "core:1"], {link}}}
  - endpoints: [far, "core:2"]
""")
    name = f"wire-{os.getpid()}"
    lab.spawn(bridge, args.honeyweave, "up", file, "--name", name, "--state-dir", lab.path("wire")).wait_line("ready ")
    run("ip", "-n", bridge, "link", "set", "far", "master", "br0", "up")
    attach("near", bridge, attacker, f"{ATTACKER}/16")


def measure(args):
    """{(who, contact): {measure: [µs]}}."""
    with Lab() as lab:
        here, middle, real, hosts = (lab.ns(label) for label in ("attacker", "bridge", "real", "hosts"))
        run("ip", "-n", middle, "link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        run("ip", "-n", middle, "link", "set", "br0", "up")
        if args.wire != "none":
            lay_wire(lab, args, middle, here)
        for ns, address in ((here, f"{ATTACKER}/16"), (real, f"{REAL}/16"), (hosts, None)):
            if ns == here and args.wire != "none":
                continue
            port = f"p-{ns.rsplit('-', 1)[1]}"
            run("ip", "-n", middle, "link", "add", "wire", "type", "veth", "peer", "name", port)
            run("ip", "-n", middle, "link", "set", port, "master", "br0", "up")
            attach("wire", middle, ns, address)
        file = lab.file("topology.yaml", TOPOLOGY)
        run(args.honeyweave, "image", "build", file, "--state-dir", args.images, timeout=900)
        real_host(lab, real, args)
        name = f"timing-{os.getpid()}"
        lab.leftovers.append(f"{args.images}/{name}")
        lab.spawn(hosts, args.honeyweave, "up", file, "--uplink", "wire", "--name", name, "--state-dir",
                  args.images).wait_line("ready ")
        live_host(lab, here)
        enter(here)
        return alternate(args.rounds)


def alternate(rounds):
    prober, found = Prober(), {}

    def take(who, to):
        try:
            times = prober.all(to)
        except TimeoutError as error:
            raise Failed(f"{who}, {to}: no answer in time ({error.__traceback__.tb_next.tb_lineno})") from error
        for measure_, took in times.items():
            found.setdefault(who, {}).setdefault(measure_, []).append(took)

    known = [f"10.97.1.{last}" for last in range(10, 41)]
    # Nobody's first contact counts here; containers have to show how long they take.
    for to in (*known, REAL, LIVE):
        for _ in range(9 if to != LIVE else 40):
            prober.all(to)
    end = time.monotonic() + 11
    # A container is taken for settled after ten seconds: what it showed before counts for nothing.
    while time.monotonic() < end:
        prober.all(LIVE)
    for number in range(rounds):
        first = f"10.97.{64 + number // 200}.{number % 200 + 1}"
        # The neighbor's MAC is asked for beforehand: that takes a trip to a real host just the same.
        for ahead in (first, REAL, LIVE):
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", (ahead, 9))
        time.sleep(0.002)
        order = [("emulated, first contact", first), ("emulated, tenth contact", known[number % len(known)]),
                 ("container", LIVE), ("real host", REAL)]
        for who, to in order[number % 4:] + order[:number % 4]:
            take(who, to)
        if sys.stderr.isatty():
            print(f"\r{number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return found


PAIRS = (
    ("emulated, first contact", "emulated, tenth contact"),
    ("emulated, tenth contact", "container"),
    ("emulated, tenth contact", "real host"),
    ("container", "real host"),
)


BEGIN, END = "<!-- timing: begin -->", "<!-- timing: end -->"


def markdown(found, rows, wire):
    count = sum(len(times) for of in found.values() for times in of.values())
    lines = [
        "![Distributions of response times](docs/timing.svg)", "",
        f"{count} measurements; the attacker's wire adds {wire.split()[0]}, give or take {wire.split()[-1]}, in each direction."
        if wire != "none" else f"{count} measurements on bare veths.",
        f"At most {ASKED} is asked for.", "",
        "| area under the ROC curve | " + " | ".join(MEASURES) + " |", "|---|" + "---|" * len(MEASURES),
    ]
    for a, b in PAIRS:
        areas = [f"{row['auc']:.2f}" for row in rows if (row["a"], row["b"]) == (a, b)]
        lines.append(f"| {a} / {b} | " + " | ".join(areas) + " |")
    return "\n".join(lines) + "\n"


def main():
    args = arguments()
    if os.geteuid() != 0:
        print("network namespaces need root: start it with sudo", file=sys.stderr)
        return 2
    sweep()
    try:
        found = measure(args)
    except (Failed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    rows = []
    for a, b in PAIRS:
        for kind in MEASURES:
            area = auc(found[a][kind], found[b][kind])
            rows.append({"measure": kind, "a": a, "b": b, "auc": round(area, 3), "asked": ASKED, "met": area <= ASKED})
    medians = {who: {kind: sorted(times)[len(times) // 2] for kind, times in of.items()} for who, of in found.items()}
    print(f"{'median, µs':26}" + "".join(f"{kind:>10}" for kind in MEASURES))
    for who, of in medians.items():
        print(f"{who:26}" + "".join(f"{of[kind]:10.0f}" for kind in MEASURES))
    print(f"\n{'area under the ROC curve':52}" + "".join(f"{kind:>10}" for kind in MEASURES))
    for a, b in PAIRS:
        areas = [row["auc"] for row in rows if (row["a"], row["b"]) == (a, b)]
        print(f"{a + ' | ' + b:52}" + "".join(f"{area:10.2f}" for area in areas))
    count = sum(len(times) for of in found.values() for times in of.values())
    print(f"\n{count} measurements, wire: {args.wire}; at most {ASKED} is asked")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"wire": args.wire, "rows": rows, "microseconds": found}) + "\n")
    if args.readme:
        (ROOT / "docs/timing.svg").write_text(drawing.svg(found, MEASURES, args.wire))
        readme = ROOT / "README.md"
        readme.write_text(between_markers(readme.read_text(), BEGIN, END, markdown(found, rows, args.wire)))
    return 0


sys.exit(main())
