"""What is measured through a switch with two ports: TCP, small frames, round trips, and what they cost."""

import json
import time

from lab import Failed, attach, cpu_seconds, in_ns, mac, machine_seconds, run, wait_for
from session import Session, latency_us, per_second
from switches import LEFT, RIGHT

MEASURES = ("tcp1", "tcp8", "frames64", "rtt_idle", "rtt_half")
# Addresses at both sides of the switch.
LEFT_IP, RIGHT_IP = "10.99.0.1", "10.99.0.2"
# Echo requests a second that measure round trips; few enough to be no load.
ASKING = 1000


def through(lab, switch, tools, wanted, results):
    """All measures of one switch in one round."""
    session = Session(lab, switch.subject, tools, wanted, results)
    middle, left, right = (lab.ns(label) for label in ("middle", "left", "right"))
    switch.start(lab, middle)
    attach(LEFT, middle, left)
    at = middle
    if wanted("frames64") or wanted("rtt_half"):
        # One process sends and counts, which leaves the other processor to the switch.
        attach(RIGHT, middle, left)
        capacity = session.measure(frames, left)["frames64"]
        at = left
    attach(RIGHT, at, right, f"{RIGHT_IP}/24")
    run("ip", "-n", left, "addr", "add", f"{LEFT_IP}/24", "dev", LEFT)
    wait_for("an answer through the switch", lambda: answers(left))
    if wanted("tcp1"):
        session.measure(one_stream, switch, left, right)
    if wanted("tcp8"):
        session.measure(eight_streams, left, right)
    to = mac(right, RIGHT)
    if wanted("rtt_idle"):
        session.measure(round_trips, left, to, "idle")
    if wanted("rtt_half"):
        session.measure(under_load, left, to, capacity / 2)


def answers(left):
    """Ports that have just come up need a moment until they forward."""
    try:
        return run(*in_ns(left, ("ping", "-c", "1", "-W", "1", RIGHT_IP)))
    except Failed:
        return None


def frames(session, left):
    """Frames of 64 octets a second that arrive, of as many as one processor sends."""
    to = mac(left, RIGHT)
    report = session.ask(left, "frames", LEFT, "max", "--to", to, "--size", "64", "--count-on", RIGHT)
    if report["answered"] == 0:
        raise Failed("no frame came through")
    return {"frames64": per_second(report)}


def one_stream(session, switch, left, right):
    """One stream, and what it costs: of the switch's processes, and of the whole machine with sender and receiver."""
    pids = switch.pids()
    before = cpu_seconds(pids), machine_seconds()
    rate, gigabits = iperf3(session, left, right, 1)
    used = cpu_seconds(pids) - before[0], machine_seconds() - before[1]
    found = {"tcp1": rate, "cpu_machine": used[1] / gigabits * 1000}
    # A switch of the kernel's has no process: what it costs is in the machine's figure only.
    if pids:
        found["cpu_switch"] = used[0] / gigabits * 1000
    return found


def eight_streams(session, left, right):
    return {"tcp8": iperf3(session, left, right, 8)[0]}


def iperf3(session, left, right, streams):
    """Gbit/s from left to right, and how many Gbit it were."""
    seconds = session.tools.seconds
    server = session.lab.spawn(right, "iperf3", "-s", "-1", "--forceflush")
    server.wait_line("Server listening")
    client = ("iperf3", "-c", RIGHT_IP, "-t", str(seconds), "-P", str(streams), "-J")
    report = json.loads(run(*in_ns(left, client), timeout=seconds + 60))
    server.end()
    arrived = report["end"]["sum_received"]
    return arrived["bits_per_second"] / 1e9, arrived["bytes"] * 8 / 1e9


def round_trips(session, left, to, load):
    """p50 and p99 of echo requests to the host at the other side, in µs."""
    report = session.ask(left, "echo", LEFT, ASKING, "--prefix", f"{RIGHT_IP}/32", "--gateway-mac", to)
    p50, p99 = latency_us(report, "p50", "p99")
    return {f"rtt_{load}_p50": p50, f"rtt_{load}_p99": p99}


def under_load(session, left, to, rate):
    """The same while so many frames a second of 64 octets take the same way."""
    more = ("--to", to, "--size", "64")
    load = session.load(left, "frames", LEFT, int(rate), *more, seconds=session.tools.seconds + 1)
    program = session.lab.spawn_as_is(load)
    time.sleep(0.5)
    try:
        return round_trips(session, left, to, "half")
    finally:
        program.end()
