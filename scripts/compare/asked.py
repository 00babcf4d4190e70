"""What is measured, against whom, and what is asked for."""

from figures import Comparison, at_least, at_most, no_less_than, no_more_than

# Subjects and what people call them.
LABELS = {
    "honeyweave": "honeyweave",
    "bridge": "kernel bridge, veth",
    "bare": "bare TAP forwarder",
    "ovs-tso": "Open vSwitch with TSO",
    "ovs": "Open vSwitch",
    "vde": "vde_switch, vde_plug2tap",
    "vde-tap": "vde_switch --tap",
    "kernel": "Linux",
    "responder": "bare AF_XDP responder",
    "honeyd": "Honeyd",
    "direct": "direct path",
}

# Replies a second of Honeyd 1.6d, one core of such a machine; it is no longer packaged anywhere.
HONEYD = 95_000

TCP, FRAMES, RTT, HOSTS = "TCP through a switch", "frames through a switch", "round trips through a switch", "hosts that do not exist"


def switching():
    """Through a switch with two ports."""
    yield Comparison(TCP, "one stream", "Gbit/s", "tcp1", "bare", at_least(0.9))
    yield Comparison(TCP, "one stream", "Gbit/s", "tcp1", "ovs-tso", at_least(1.0))
    yield Comparison(TCP, "one stream", "Gbit/s", "tcp1", "ovs")
    yield Comparison(TCP, "one stream", "Gbit/s", "tcp1", "vde", at_least(7))
    yield Comparison(TCP, "one stream", "Gbit/s", "tcp1", "vde-tap")
    yield Comparison(TCP, "one stream", "Gbit/s", "tcp1", "bridge", at_least(0.9, aim=True))
    for peer in ("bare", "ovs-tso", "bridge"):
        yield Comparison(TCP, "eight streams", "Gbit/s", "tcp8", peer)
    for peer in ("bare", "ovs-tso", "bridge"):
        yield Comparison(TCP, "processor time of the machine", "ms/Gbit", "cpu_machine", peer)
    for peer in ("bare", "ovs-tso"):
        yield Comparison(TCP, "processor time of the switch", "ms/Gbit", "cpu_switch", peer)
    yield Comparison(FRAMES, "64 octets", "a second", "frames64", "bridge", at_least(1.1))
    yield Comparison(FRAMES, "64 octets", "a second", "frames64", "ovs", at_least(1.4))
    for peer in ("bare", "vde", "vde-tap"):
        yield Comparison(FRAMES, "64 octets", "a second", "frames64", peer)
    for load, of in (("idle", "idle"), ("half", "half load")):
        for part in ("p50", "p99"):
            what, measure = f"{part} at {of}, more than the kernel bridge's", f"rtt_{load}_{part}"
            ask = no_more_than(20) if (load, part) == ("half", "p50") else None
            yield Comparison(RTT, what, "µs", measure, "bare", ask, above="bridge")
            # Ratios of differences mean nothing when one of them is about 0: whole round trips are compared.
            ask = at_most(1.0) if (load, part) == ("half", "p99") else None
            yield Comparison(RTT, f"{part} at {of}", "µs", measure, "vde", ask)


def emulation():
    """Hosts on a veth, against the kernel answering for the same prefix."""
    for what, measure in (("echo replies, /16", "echo"), ("RST of closed ports, /16", "rst")):
        yield Comparison(HOSTS, what, "a second", measure, "kernel", at_least(1.5))
        yield Comparison(HOSTS, what, "a second", measure, "honeyd", at_least(4), constant=HONEYD)
        yield Comparison(HOSTS, what, "a second", measure, "responder", at_least(0.9, aim=True))
    for part, most in (("p50", 20), ("p99", 60)):
        what, measure = f"echo {part} at 10,000 a second", f"echo_{part}"
        yield Comparison(HOSTS, what, "µs", measure, "kernel", no_more_than(most))
        yield Comparison(HOSTS, what, "µs", measure, "responder")
    yield Comparison(HOSTS, "handshake, banner, close", "a second", "handshake", None, no_less_than(20_000))
    yield Comparison(HOSTS, "sweep at 200,000 a second, unanswered", "", "sweep_lost", None, no_more_than(0))
    yield Comparison(HOSTS, "sweep, frames that found no room in us", "", "sweep_dropped", None, no_more_than(0))
    yield Comparison(HOSTS, "sweep, addresses of which no record was made", "", "sweep_unrecorded", None, no_more_than(0))
    # Four octets for each of a /8's addresses: what is kept is bounded, however many were asked.
    yield Comparison(HOSTS, "sweep, memory that it added", "MiB", "sweep_growth", None, no_more_than(64))
    yield Comparison(HOSTS, "processor time while nothing happens", "%", "idle", None, no_more_than(1))
    yield Comparison(HOSTS, "relayed TCP, spliced", "Gbit/s", "splice", "direct", at_least(0.7))


def comparisons():
    """All of them, in the order of the report."""
    return [*switching(), *emulation()]
