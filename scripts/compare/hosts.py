"""What is asked of hosts that do not exist: honeyweave's, and those that Linux itself answers for (AnyIP)."""

import json
import time

from lab import Failed, attach, children, exact_cpu_seconds, in_ns, own_mib, run, wait_for
from session import Session, latency_us, per_second
from switches import LEFT, RIGHT, honeynet, own_name, up

# The segment of the wire, who asks from there (addresses that no kernel has), and who is asked.
SEGMENT, WIRE_IP, ASKER, ASKERS, PREFIX = "10.0.0.0/14", "10.0.0.2/14", "10.0.0.9/32", "10.2.0.0/24", "10.1.0.0/16"
BANNER_PORT, CLOSED_PORT = 22, 81
# Connections a second that are tried.
CONNECTIONS = 25_000


class Kernel:
    """Linux answers for the prefix itself."""

    subject = "kernel"
    measures = ("latency", "echo", "rst")

    def start(self, lab, ns, tools):
        settings = ("net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_msgs_per_sec=100000000")
        run(*in_ns(ns, ("sysctl", "-q", "-w", *settings)))
        run("ip", "-n", ns, "addr", "add", WIRE_IP, "dev", "wire")
        run("ip", "-n", ns, "route", "add", "local", PREFIX, "dev", "lo")


class Honeyweave:
    """An uplink and a /16 of hosts. Frames are recorded, as they are by default."""

    subject = "honeyweave"
    measures = ("idle", "latency", "echo", "rst", "handshake")
    topology = f"""name: compare
templates:
  server: {{personality: linux, tcp: {{{BANNER_PORT}: {{banner: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\\r\\n"}}}}}}
nodes:
  wan: {{kind: uplink}}
  hosts: {{kind: hosts, addresses: {PREFIX}, template: server, mac: shared, prefix: [{SEGMENT}]}}
links:
  - endpoints: [wan, hosts]
"""

    def start(self, lab, ns, tools):
        self.program = up(lab, ns, tools, self.topology, "--uplink", "wire")


class Responder:
    """examples/bare_responder.rs: every address answers, nothing is looked up or recorded."""

    subject = "responder"
    measures = ("latency", "echo", "rst")

    def start(self, lab, ns, tools):
        lab.spawn(ns, tools.responder, "wire").wait_line("ready")


ALL = (Kernel, Honeyweave, Responder)


def wire(lab):
    """A veth: `asker` in one namespace, `wire` in the other."""
    here, there = lab.ns("asker"), lab.ns("hosts")
    run("ip", "-n", there, "link", "add", "wire", "type", "veth", "peer", "name", "asker", "netns", here)
    run("ip", "-n", here, "link", "set", "asker", "up")
    run("ip", "-n", there, "link", "set", "wire", "up")
    return here, there


def of(lab, emulator, tools, wanted, results):
    """All measures of who answers for a /16, in one round."""
    session = Session(lab, emulator.subject, tools, wanted, results)
    here, there = wire(lab)
    emulator.start(lab, there, tools)
    if wanted("idle") and "idle" in emulator.measures:
        session.measure(idle, emulator.program.pid)
    for name, measure in (("latency", latency), ("echo", echo), ("rst", rst), ("handshake", handshake)):
        if name in emulator.measures and wanted(name):
            session.measure(measure, here)


TO = ("--prefix", PREFIX, "--on-link", "--source-prefix", ASKER)


# Long enough for what happens once in a while.
IDLE_SECONDS = 10


def idle(session, supervisor):
    """Processor time of all processes while nothing happens."""
    pids = children(supervisor)
    before, begin = exact_cpu_seconds(pids), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return {"idle": 100 * (exact_cpu_seconds(pids) - before) / (time.monotonic() - begin)}


def latency(session, here):
    p50, p99 = latency_us(session.ask(here, "echo", "asker", 10_000, *TO), "p50", "p99")
    return {"echo_p50": p50, "echo_p99": p99}


def echo(session, here):
    return {"echo": per_second(session.ask(here, "echo", "asker", "max", *TO))}


def rst(session, here):
    report = session.ask(here, "syn", "asker", "max", *TO, "--port", CLOSED_PORT)
    if report["syn"]["syn_ack"] > 0:
        raise Failed("a closed port was open")
    return {"rst": per_second(report)}


def handshake(session, here):
    # From many addresses: one has not enough ports for that many connections.
    to = ("--prefix", PREFIX, "--on-link", "--source-prefix", ASKERS, "--sources", 200)
    report = session.ask(here, "handshake", "asker", CONNECTIONS, *to, "--port", BANNER_PORT)
    done = report["handshake"]
    return {"handshake": min(done["responses"], done["closed"]) / report["seconds"]}


# A ring that is patient enough for a machine on which three busy threads share two processors.
SWEPT = """name: compare
nodes:
  wan: {kind: uplink, ring: 16384}
  edge:
    kind: router
    interfaces:
      wan: [192.0.2.1/24]
      lan: [8.0.0.1/6]
  hosts: {kind: hosts, addresses: 10.0.0.0/8}
links:
  - endpoints: [wan, "edge:wan"]
  - endpoints: ["edge:lan", hosts]
"""


# Why the switch drops what it has no room for, and not what it should drop.
OURS_TO_LOSE = ("tail-drop", "no-buffer", "table-full", "device-error", "panic")


def sweep(lab, tools, wanted, results):
    """Every address of a prefix once, at 200,000 a second: who did not answer, what was lost, and what it added to memory."""
    session = Session(lab, Honeyweave.subject, tools, wanted, results)
    here, there = wire(lab)
    program = up(lab, there, tools, SWEPT, "--uplink", "wire")
    switch = switch_process(program.pid)
    before = own_mib(switch)
    to = ("--prefix", tools.swept, "--via", "192.0.2.1", "--source-prefix", "192.0.2.9/32", "--once")
    report = session.ask(here, "echo", "asker", 200_000, *to, seconds=600)
    growth = own_mib(switch) - before
    recorded = echoes_recorded(lab, there, tools, report["targets"])
    drops = json.loads(run(tools.honeyweave, "show", "drops", "--json", *honeynet(lab, there)))
    figures = {
        "sweep_rate": report["rate"],
        "sweep_targets": report["targets"],
        "sweep_lost": report["targets"] - report["responders"],
        "sweep_dropped": sum(row["count"] for row in drops if row["reason"] in OURS_TO_LOSE),
        "sweep_unrecorded": max(report["targets"] - recorded, 0),
        "sweep_overruns": report["generator"]["overruns"],
        "sweep_before": before,
        "sweep_growth": growth,
    }
    results.add(Honeyweave.subject, figures)


def echoes_recorded(lab, there, tools, targets):
    """How many first echo requests are in the log, once no more come. A record an address is what a sweep leaves."""
    before, now = -1, 0
    while before < now < targets:
        before = now
        time.sleep(1)
        status = json.loads(run(tools.honeyweave, "status", "--json", *honeynet(lab, there)))
        now = dict(status["summary"]["events"]).get("icmp.echo", 0)
    return now


def switch_process(supervisor):
    """The process of a honeynet's that moves its frames."""
    with open(f"/proc/{supervisor}/task/{supervisor}/children") as file:
        for word in file.read().split():
            with open(f"/proc/{word}/cmdline") as line:
                if "__switch" in line.read():
                    return int(word)
    raise Failed("the honeynet has no switch")


SPLICED_IP, DIRECT_IP = "10.99.0.9", "10.99.0.3"
IPERF3 = 5201
SPLICED = f"""name: compare
templates:
  server:
    personality: linux
    tcp: {{22: container, {IPERF3}: container}}
    backend: {{image: load, start: with-system, idle: 0}}
images:
  load: {{recipe: small, packages: [iperf3]}}
nodes:
  core: {{kind: switch, ports: 3}}
  asker: {{kind: tap, interface: {LEFT}}}
  direct: {{kind: tap, interface: {RIGHT}}}
  server: {{kind: container, address: {SPLICED_IP}, template: server, prefix: [10.99.0.0/24]}}
links:
  - endpoints: [asker, "core:1"]
  - endpoints: [direct, "core:2"]
  - endpoints: [server, "core:3"]
"""


def splice(lab, tools, wanted, results):
    """TCP into a host's container, and TCP by the same switch to a TAP; frames of both are recorded, as by default."""
    middle, left, right = (lab.ns(label) for label in ("middle", "left", "right"))
    # Images are built once, and stay.
    run(tools.honeyweave, "image", "build", lab.file("image.yaml", SPLICED), "--state-dir", tools.images, timeout=900)
    up(lab, middle, tools, SPLICED, state=tools.images)
    lab.leftovers.append(f"{tools.images}/{own_name(middle)}")
    attach(LEFT, middle, left, "10.99.0.1/24")
    attach(RIGHT, middle, right, f"{DIRECT_IP}/24")
    server = lab.spawn(right, "iperf3", "-s", "--forceflush")
    server.wait_line("Server listening")
    options = (f"-o{key}" for key in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"))
    login = ("sshpass", "-p", "toor", "ssh", "-T", *options, f"root@{SPLICED_IP}", "iperf3 -s -D")

    def started():
        try:
            return run(*in_ns(left, login), timeout=30) or True
        except Failed:
            return False

    wait_for("iperf3 in the container", started)
    for subject, to in ((Honeyweave.subject, SPLICED_IP), ("direct", DIRECT_IP)):
        Session(lab, subject, tools, wanted, results).measure(stream, left, to)


def stream(session, left, to):
    seconds = session.tools.seconds
    report = json.loads(run(*in_ns(left, ("iperf3", "-c", to, "-t", str(seconds), "-J")), timeout=seconds + 60))
    return {"splice": report["end"]["sum_received"]["bits_per_second"] / 1e9}
