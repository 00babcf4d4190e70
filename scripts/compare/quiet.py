"""Measuring while nobody else works on this machine.

A processor that somebody else uses makes a switch slower, or faster: with sender and switch on one processor
nothing has to be woken. So a measure during which others worked is repeated; what counts is the quietest.
"""

import os
import resource
import time

from lab import children, cpu_seconds, machine_seconds

# What others may use, in processors.
QUIET = 0.1
TRIES = 4
# How long to wait for quiet before the next try, in seconds.
PATIENCE = 20


def softirq_threads():
    """The kernel's threads that forward frames when there are many: their work is ours."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/comm") as file:
                    if file.read().startswith("ksoftirqd/"):
                        found.append(int(name))
            except OSError:
                pass
    return found


class Onlooker:
    """Tells how much others use the machine."""

    def __init__(self, lab):
        self.lab = lab
        self.softirq = softirq_threads()

    def look(self):
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = resource.getrusage(resource.RUSAGE_SELF)
        alive = [pid for program in self.lab.running if program.child.poll() is None for pid in children(program.pid)]
        ours = cpu_seconds(alive + self.softirq) + ended.ru_utime + ended.ru_stime + own.ru_utime + own.ru_stime
        return time.monotonic(), machine_seconds(stolen=True) - ours

    def since(self, before):
        """Processors that others have used since then."""
        (then, used), (now, used_now) = before, self.look()
        return max(0.0, used_now - used) / max(now - then, 0.001)

    def wait(self):
        """Waits until others are quiet, but not for ever."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            before = self.look()
            time.sleep(0.5)
            if self.since(before) <= QUIET:
                return


def quietly(lab, noise, measure):
    """What `measure` returns when others were as quiet as they would be; `noise` gets how quiet that was."""
    onlooker, best = Onlooker(lab), None
    for number in range(TRIES):
        if number:
            onlooker.wait()
        before = onlooker.look()
        value = measure()
        share = onlooker.since(before)
        if best is None or share < best[0]:
            best = share, value
        if share <= QUIET:
            break
    noise.append(round(best[0], 2))
    return best[1]
