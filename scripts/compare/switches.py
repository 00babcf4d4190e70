"""The switches: each makes two ports, devices of its namespace that may be moved to others.

Every peer is set up as well as it can be: what it would lose by a poorer setting is not honeyweave's gain.
"""

import os

from lab import Failed, children, run, wait_for

LEFT, RIGHT = "left0", "right0"


class Switch:
    """Something between two ports."""

    subject = None

    def __init__(self, tools):
        self.tools = tools

    def start(self, lab, ns):
        """Makes the ports LEFT and RIGHT in `ns`, ready to forward once they are up."""
        raise NotImplementedError

    def pids(self):
        """Its processes."""
        return []

    def version(self):
        """What it is, for the header."""
        return None


class Bridge(Switch):
    """The kernel's bridge, with a veth for each port."""

    subject = "bridge"

    def start(self, lab, ns):
        # No spanning tree: ports forward at once.
        run("ip", "-n", ns, "link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        for port, name in (("p-left", LEFT), ("p-right", RIGHT)):
            run("ip", "-n", ns, "link", "add", name, "type", "veth", "peer", "name", port)
            run("ip", "-n", ns, "link", "set", port, "master", "br0", "up")
        run("ip", "-n", ns, "link", "set", "br0", "up")


class Bare(Switch):
    """examples/bare_forwarder.rs: two TAPs, one buffer."""

    subject = "bare"

    def start(self, lab, ns):
        self.program = lab.spawn(ns, self.tools.bare, LEFT, RIGHT)
        self.program.wait_line("ready")

    def pids(self):
        return [self.program.pid]


class Honeyweave(Switch):
    """Two `kind: tap` nodes and a learning switch. Frames are not recorded: no peer does that."""

    subject = "honeyweave"
    topology = f"""name: compare
nodes:
  core: {{kind: switch, ports: 2}}
  left: {{kind: tap, interface: {LEFT}, capture: false}}
  right: {{kind: tap, interface: {RIGHT}, capture: false}}
links:
  - endpoints: [left, "core:1"]
  - endpoints: [right, "core:2"]
"""

    def start(self, lab, ns):
        self.program = up(lab, ns, self.tools, self.topology)

    def pids(self):
        return children(self.program.pid)

    def version(self):
        return run(self.tools.honeyweave, "--version").strip()


def own_name(ns):
    """The honeynet of a namespace."""
    return f"compare-{ns}"


def honeynet(lab, ns, state=None):
    """How its other commands are told which honeynet is meant."""
    return "--name", own_name(ns), "--state-dir", state or lab.path("state")


def up(lab, ns, tools, topology, *more, state=None):
    """Brings a topology up; the process that is returned is its supervisor."""
    file = lab.file("topology.yaml", topology)
    program = lab.spawn(ns, tools.honeyweave, "up", file, *honeynet(lab, ns, state), *more)
    program.wait_line("ready ")
    return program


class OpenVSwitch(Switch):
    """Open vSwitch's userspace datapath on TAPs, a database and a daemon of our own beside the system's."""

    subject = "ovs"
    tso = False

    def start(self, lab, ns):
        base = lab.path(self.subject)
        run("mkdir", base)
        database, socket = f"{base}/conf.db", f"{base}/db.sock"
        run("ovsdb-tool", "create", database, "/usr/share/openvswitch/vswitch.ovsschema")
        quiet = ("--verbose=console:off", "--verbose=syslog:off")
        server = lab.spawn(
            ns, "ovsdb-server", database, f"--remote=punix:{socket}", f"--unixctl={base}/ovsdb.ctl", *quiet
        )
        wait_for("ovsdb-server", lambda: run("ls", base).count("db.sock"))

        def vsctl(*args):
            return run("ovs-vsctl", f"--db=unix:{socket}", "--timeout=20", *args)

        vsctl("--no-wait", "init")
        vsctl("--no-wait", "set", "Open_vSwitch", ".", f"other_config:userspace-tso-enable={str(self.tso).lower()}")
        log = f"{base}/vswitchd.log"
        daemon = lab.spawn(
            # The run directory is where the datapath's sockets go.
            ns, "env", f"OVS_RUNDIR={base}", "ovs-vswitchd", f"unix:{socket}", f"--unixctl={base}/vswitchd.ctl",
            f"--log-file={log}", *quiet,
        )
        self.programs = [daemon, server]
        vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
        for port in (LEFT, RIGHT):
            vsctl("add-port", "br0", port, "--", "set", "interface", port, "type=tap")
        with open(log) as file:
            if self.tso != ("Segmentation Offloading support enabled" in file.read()):
                raise Failed("this Open vSwitch has no userspace TSO" if self.tso else "TSO cannot be switched off")

    def pids(self):
        return [program.pid for program in self.programs]

    def version(self):
        return run("ovs-vswitchd", "--version").splitlines()[0].replace("ovs-vswitchd ", "")


class OpenVSwitchTso(OpenVSwitch):
    """The same, with frames of up to 64 KiB."""

    subject = "ovs-tso"
    tso = True


class VdePlug(Switch):
    """vde_switch, with a vde_plug2tap for each port."""

    subject = "vde"

    def start(self, lab, ns):
        socket = lab.path("vde")
        self.programs = [lab.spawn(ns, "vde_switch", "-s", socket)]
        wait_for("vde_switch", lambda: os.path.exists(f"{socket}/ctl"))
        self.programs += [lab.spawn(ns, "vde_plug2tap", "-s", socket, port) for port in (LEFT, RIGHT)]
        wait_for("the TAPs of vde_plug2tap", lambda: both_ports(ns))

    def pids(self):
        return [program.pid for program in self.programs]

    def version(self):
        return run("vde_switch", "--version").splitlines()[0]


class VdeTap(VdePlug):
    """vde_switch that opens the TAPs itself, which is faster."""

    subject = "vde-tap"

    def start(self, lab, ns):
        self.programs = [lab.spawn(ns, "vde_switch", "-s", lab.path("vde"), "-t", LEFT, "-t", RIGHT)]
        wait_for("the TAPs of vde_switch", lambda: both_ports(ns))


def both_ports(ns):
    links = run("ip", "-n", ns, "-o", "link")
    return LEFT in links and RIGHT in links


ALL = [Bridge, OpenVSwitchTso, OpenVSwitch, VdePlug, VdeTap, Honeyweave, Bare]
