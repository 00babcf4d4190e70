"""Namespaces, programs in them, and the end of both.

Everything has a name with this process's number in it. It is removed at the end, whatever the end is: an
interrupt, a failure, or (at the next start) a death that left no time to clean up.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

PREFIX = "hwcmp-"


class Failed(Exception):
    """A program, with what it said."""


def run(*args, timeout=60, stdin=None):
    """Runs a program to its end and returns what it printed."""
    try:
        done = subprocess.run(args, capture_output=True, text=True, timeout=timeout, input=stdin)
    except FileNotFoundError as error:
        raise Failed(f"{args[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(args)}: no end after {timeout} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise Failed(f"{' '.join(args)}: exit code {done.returncode}: {said}")
    return done.stdout


def wait_for(what, ask, seconds=20.0):
    """Asks until the answer is true."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failed(f"waited in vain for {what}")
        time.sleep(0.02)


class Running:
    """A program that runs beside us."""

    def __init__(self, args, log):
        self.args = args
        self.log = log
        with open(log, "wb") as out:
            # A session of its own: an interrupt typed at the terminal is for us, who end the others in order. Its
            # input stays open and silent: vde_switch ends with it.
            self.child = subprocess.Popen(
                args, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def pid(self):
        return self.child.pid

    def said(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def wait_line(self, text):
        def found():
            if text in self.said():
                return True
            if self.child.poll() is not None:
                raise Failed(f"{' '.join(self.args)}: it ended: {self.said()[-2000:]}")
            return False

        wait_for(f"`{text}` of {self.args[0]}", found)

    def end(self, seconds=12.0):
        for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
            if self.child.poll() is None:
                self.child.send_signal(number)
                try:
                    self.child.wait(patience)
                except subprocess.TimeoutExpired:
                    continue
        return self.child.returncode


def in_ns(ns, args):
    # Not `ip netns exec`, which hides the cgroups that containers need.
    return ("nsenter", f"--net=/run/netns/{ns}", "--", *args)


class Lab:
    """A set of namespaces and what runs in them. Use it with `with`."""

    def __init__(self):
        self.spaces = []
        self.running = []
        self.leftovers = []
        self.dir = None

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix=PREFIX)
        # The console's user has to get to what it writes; without a console, nothing would be recorded.
        os.chmod(self.dir, 0o755)
        return self

    def __exit__(self, *_):
        # In the reverse order; an interrupt that is repeated does not leave half of it behind.
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        for program in reversed(self.running):
            program.end()
        for name in self.spaces:
            delete_ns(name)
        for path in (*self.leftovers, self.dir):
            shutil.rmtree(path, ignore_errors=True)
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def ns(self, label):
        """A namespace of that name, without IPv6: nobody speaks in it but those who were asked to."""
        name = f"{PREFIX}{os.getpid()}-{label}"
        run("ip", "netns", "add", name)
        self.spaces.append(name)
        settings = ["net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1"]
        run(*in_ns(name, ("sysctl", "-q", "-w", *settings)))
        run("ip", "-n", name, "link", "set", "lo", "up")
        return name

    def path(self, name):
        return os.path.join(self.dir, name)

    def file(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def spawn(self, ns, *args):
        """Starts a program in a namespace."""
        return self.spawn_as_is(in_ns(ns, args))

    def spawn_as_is(self, args):
        """The same for a command that enters the namespace itself."""
        program = Running(args, self.path(f"log-{len(self.running)}"))
        self.running.append(program)
        return program


def delete_ns(name):
    subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)


def sweep():
    """Removes what a run that was killed has left: programs in its namespaces, the namespaces, its directory."""
    try:
        names = os.listdir("/run/netns")
    except FileNotFoundError:
        names = []
    for name in names:
        number = re.fullmatch(rf"{PREFIX}(\d+)-.*", name)
        if not number or os.path.exists(f"/proc/{number[1]}"):
            continue
        for pid in subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        delete_ns(name)


def attach(device, ns, to, address=None):
    """Moves a device from one namespace to another, switches it on and gives it an address."""
    if ns != to:
        run("ip", "-n", ns, "link", "set", device, "netns", to)
    run("ip", "-n", to, "link", "set", device, "up")
    if address:
        run("ip", "-n", to, "addr", "add", address, "dev", device)


def mac(ns, device):
    words = run("ip", "-n", ns, "-o", "link", "show", device).split()
    return words[words.index("link/ether") + 1]


def children(pid):
    """A process and all that come from it."""
    found = [pid]
    for at in found:
        try:
            with open(f"/proc/{at}/task/{at}/children") as file:
                found += [int(word) for word in file.read().split()]
        except OSError:
            pass
    return found


def cpu_seconds(pids):
    """Processor time that processes have used so far."""
    ticks = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return ticks / os.sysconf("SC_CLK_TCK")


def exact_cpu_seconds(pids):
    """The same as the scheduler counts it, which a tick does not round; of processes that live."""
    nanos = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                nanos += int(file.read().split()[0])
    return nanos / 1e9


def machine_seconds(stolen=False):
    """Processor time that the machine has used so far: all but idling, waiting and what its host took from it."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, irq, softirq, steal = (int(word) for word in file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + (steal if stolen else 0)) / os.sysconf("SC_CLK_TCK")


def own_mib(pid):
    """Memory of a process without what it shares with others (rings of a fixed size), in MiB."""
    with open(f"/proc/{pid}/status") as file:
        kib = {line.split(":")[0]: int(line.split()[1]) for line in file if line.startswith(("VmRSS:", "RssShmem:"))}
    return (kib["VmRSS"] - kib["RssShmem"]) / 1024
