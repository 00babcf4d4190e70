"""Holds honeyweave against other switches and against Linux itself, side by side on this machine.

Everything runs in network namespaces of its own and ends by itself. In each round all take turns, and each round
begins with another one; what is reported are medians. The figures go to target/compare.json.
"""

import argparse
import contextlib
import datetime
import fcntl
import json
import os
import platform
import re
import signal
import sys
from pathlib import Path

import asked
import hosts
import plot
import switches
import switching
from figures import OURS, between_markers, markdown, median, rotated, rows, table
from lab import Failed, Lab, run, sweep
from session import Results

ROOT = Path(__file__).resolve().parents[2]
MEASURES = (*switching.MEASURES, *hosts.Honeyweave.measures, "sweep", "splice")
# A measure and the names of the figures that it gives, where they are others.
GIVES = {
    "tcp1": ("tcp1", "cpu_machine", "cpu_switch"),
    "rtt_idle": ("rtt_idle_p50", "rtt_idle_p99"),
    "rtt_half": ("rtt_half_p50", "rtt_half_p99"),
    "latency": ("echo_p50", "echo_p99"),
    "sweep": ("sweep_lost", "sweep_dropped", "sweep_unrecorded", "sweep_growth"),
}
BEGIN, END = "<!-- compare: written by `make compare ARGS=--readme` -->", "<!-- compare: end -->"


def arguments():
    parser = argparse.ArgumentParser(prog="make compare ARGS=...", description=__doc__)
    release = ROOT / "target/release"
    parser.add_argument("--only", metavar="PATTERN", help="measure only what this regular expression finds in "
                        f"`MEASURE WHO`, such as `tcp1` or `frames64 (bridge|honeyweave)`; measures: "
                        f"{', '.join(MEASURES)}")
    parser.add_argument("--quick", action="store_true", help="one short round, to see whether everything works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="how long each measure takes")
    parser.add_argument("--readme", action="store_true", help="also write docs/compare.svg and the tables of README.md")
    parser.add_argument("--out", type=Path, default=ROOT / "target/compare.json")
    parser.add_argument("--honeyweave", metavar="PROGRAM", default=str(release / "honeyweave"))
    parser.add_argument("--generator", metavar="PROGRAM", help="a honeyweave whose `bench` makes the load")
    parser.add_argument("--bare", metavar="PROGRAM", default=str(release / "examples/bare_forwarder"))
    parser.add_argument("--responder", metavar="PROGRAM", default=str(release / "examples/bare_responder"))
    parser.add_argument("--images", metavar="DIRECTORY", default=str(ROOT / "target/compare-state"),
                        help="where images of containers are kept")
    parser.add_argument("--lock", metavar="FILE", help="hold an exclusive lock on it whenever something is measured")
    args = parser.parse_args()
    args.generator = args.generator or args.honeyweave
    # A /8, and in a hurry a sixteenth of it.
    args.swept = "10.0.0.0/12" if args.quick else "10.0.0.0/8"
    if args.quick:
        args.rounds, args.seconds = 1, 1
    return args


class Comparing:
    """One run: what was measured, and what could not be."""

    def __init__(self, args):
        self.args = args
        self.results = Results()
        self.missing = {}
        self.failed = {}

    def wanted(self, measure, subject):
        return self.args.only is None or re.search(self.args.only, f"{measure} {subject}") is not None

    def attempt(self, of, subject, names, measure):
        """Measures one subject once in a lab of its own. One that failed is not tried again."""
        names = [name for name in names if self.wanted(name, subject)]
        if not names or (of, subject) in self.failed:
            return
        print(f"  {of}: {asked.LABELS[subject]}", file=sys.stderr, flush=True)
        try:
            with self.lock(), Lab() as lab:
                measure(lab, lambda name: self.wanted(name, subject))
        except (Failed, OSError, KeyError, ValueError) as error:
            what = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
            self.failed[(of, subject)] = what
            for figure in (figure for name in names for figure in GIVES.get(name, (name,))):
                self.missing[(figure, subject)] = "MISSING"
            print(f"MISSING: {of}: {asked.LABELS[subject]}: {what}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def lock(self):
        if not self.args.lock:
            yield
            return
        with open(self.args.lock, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def run(self):
        args, results = self.args, self.results
        for number in range(args.rounds):
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
            for kind in rotated(switches.ALL, number):
                switch = kind(args)
                self.attempt("through a switch", switch.subject, switching.MEASURES, lambda lab, wanted, switch=switch:
                             switching.through(lab, switch, args, wanted, results))
            for kind in rotated(hosts.ALL, number):
                emulator = kind()
                self.attempt("hosts", emulator.subject, emulator.measures, lambda lab, wanted, emulator=emulator:
                             hosts.of(lab, emulator, args, wanted, results))
            self.attempt("splice", OURS, ("splice",), lambda lab, wanted: hosts.splice(lab, args, wanted, results))
        self.attempt("sweep", OURS, ("sweep",), lambda lab, wanted: hosts.sweep(lab, args, wanted, results))


def header(args):
    """When and on what."""
    with open("/proc/cpuinfo") as file:
        models = {line.split(":", 1)[1].strip() for line in file if line.startswith("model name")}

    def version(of):
        try:
            return of()
        except (Failed, IndexError):
            return None

    versions = [version(switch(args).version) for switch in switches.ALL]
    versions.append(version(lambda: " ".join(run("iperf3", "--version").split()[:2])))
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": ", ".join(sorted(models)) or platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "versions": ", ".join(dict.fromkeys(version for version in versions if version)),
        "commit": version(lambda: run("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD").strip()),
        "load_before": os.getloadavg()[0],
        "rounds": args.rounds,
        "seconds": args.seconds,
    }


def write_readme(report, results):
    drawing = plot.svg(results, asked.LABELS, f"{report['header']['cpu']}, {report['header']['date'][:10]}")
    new = markdown(report["header"], report["rows"])
    if drawing:
        (ROOT / "docs/compare.svg").write_text(drawing)
        new = f"![Throughput of honeyweave and of others](docs/compare.svg)\n\n{new}"
    readme = ROOT / "README.md"
    readme.write_text(between_markers(readme.read_text(), BEGIN, END, new))


def main():
    args = arguments()
    if os.geteuid() != 0:
        print("network namespaces need root: start it with sudo", file=sys.stderr)
        return 2
    for program in (args.honeyweave, args.generator, args.bare, args.responder):
        if not os.access(program, os.X_OK):
            print(f"{program} is not there: `make compare` builds it", file=sys.stderr)
            return 2
    # As an interrupt does: what has been started is ended, and nothing is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sweep()
    comparing = Comparing(args)
    head = header(args)
    try:
        comparing.run()
    except KeyboardInterrupt:
        print("interrupted; nothing is left behind, and nothing was written", file=sys.stderr)
        return 130
    report = {
        "header": head,
        "rows": rows(asked.comparisons(), comparing.results, asked.LABELS, comparing.missing),
        # Processors that others have used while something was measured, at most and as a rule.
        "others": {"most": max(comparing.results.noise, default=None), "median": median(comparing.results.noise)},
        "missing": [{"what": of, "who": who, "why": why} for (of, who), why in comparing.failed.items()],
        "rounds": comparing.results,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report["rows"]))
    print(f"{args.out} has every round")
    if args.readme:
        write_readme(report, comparing.results)
    for entry in report["missing"]:
        print(f"MISSING: {entry['what']}: {asked.LABELS[entry['who']]}: {entry['why']}", file=sys.stderr)
    return 1 if report["missing"] else 0


sys.exit(main())
