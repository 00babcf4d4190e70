"""Has the unmodified nmap name emulated hosts whose personalities come from its own database.

For each name there is one host, on a veth to the namespace that nmap runs in. Everything runs in network namespaces of
its own and ends by itself. The rows go to target/fidelity.json: `exact`, the name is among the perfect matches; `first`, it
stands first; `sole`, nothing else is there.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/compare"))

from lab import Failed, Lab, in_ns, run, sweep  # noqa: E402  (the path comes first)

OPEN, CLOSED = 80, 81
# Hosts on the wire at once: an uplink lets 256 MACs out.
AT_ONCE = 200


def arguments():
    parser = argparse.ArgumentParser(prog="make fidelity NAMES=FILE", description=__doc__)
    parser.add_argument("names", type=Path, metavar="NAMES", help="a file with a name of nmap's database in each line")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="scans at a time (default 1)")
    parser.add_argument("--verbose", action="store_true", help="show what nmap saw of hosts that it did not name")
    parser.add_argument("--out", type=Path, default=ROOT / "target/fidelity.json")
    parser.add_argument("--honeyweave", metavar="PROGRAM", default=str(ROOT / "target/release/honeyweave"))
    return parser.parse_args()


def topology(names):
    """One host for each name; what is quoted as JSON is quoted as YAML, too."""
    lines = ["name: fidelity", "templates:"]
    for number, name in enumerate(names):
        lines.append(f"  t{number}: {{personality: {json.dumps(name)}, tcp: {{{OPEN}: open}}}}")
    lines += ["nodes:", "  wan: {kind: uplink}", f"  core: {{kind: switch, ports: {len(names) + 1}}}"]
    for number in range(len(names)):
        lines.append(f"  h{number}: {{kind: host, address: {address(number)}, template: t{number}}}")
    lines += ["links:", '  - endpoints: [wan, "core:1"]']
    lines += [f'  - endpoints: [h{number}, "core:{number + 2}"]' for number in range(len(names))]
    return "\n".join(lines) + "\n"


def address(number):
    return f"10.98.{number // 200}.{number % 200 + 10}"


def scan(ns, name, target):
    """One scan, and what came of it."""
    begin = time.monotonic()
    command = ("nmap", "-O", "-n", "-Pn", "--max-retries", "2", "-vv", "-p", f"{OPEN},{CLOSED}", "-oX", "-", target)
    done = subprocess.run(in_ns(ns, command), capture_output=True, text=True, errors="replace", timeout=180)
    seconds = time.monotonic() - begin
    text = done.stdout
    root = ElementTree.fromstring(text[text.index("<?xml"):])
    matches = [(match.get("name"), int(match.get("accuracy"))) for match in root.iter("osmatch")]
    perfect = [found for found, accuracy in matches if accuracy == 100]
    seen = root.find(".//osfingerprint")
    return {
        "name": name,
        "exact": name in perfect,
        "first": bool(matches) and matches[0][0] == name and matches[0][1] == 100,
        "sole": perfect == [name],
        "seconds": round(seconds, 2),
        "matches": matches[:5],
        "seen": None if seen is None else seen.get("fingerprint").replace("\nOS:", ""),
    }


def batch(args, names, rows):
    with Lab() as lab:
        here, there = lab.ns("scanner"), lab.ns("hosts")
        run("ip", "-n", there, "link", "add", "wire", "type", "veth", "peer", "name", "scanner", "netns", here)
        run("ip", "-n", here, "addr", "add", "10.98.255.1/16", "dev", "scanner")
        run("ip", "-n", here, "link", "set", "scanner", "up")
        run("ip", "-n", there, "link", "set", "wire", "up")
        file = lab.file("topology.yaml", topology(names))
        options = ("--name", f"fidelity-{os.getpid()}", "--state-dir", lab.path("state"))
        lab.spawn(there, args.honeyweave, "up", file, "--uplink", "wire", *options).wait_line("ready ")
        with concurrent.futures.ThreadPoolExecutor(args.parallel) as pool:
            scans = [pool.submit(scan, here, name, address(number)) for number, name in enumerate(names)]
            for done in scans:
                row = done.result()
                rows.append(row)
                verdict = "sole" if row["sole"] else "first" if row["first"] else "exact" if row["exact"] else "NO"
                print(f"{verdict:6} {row['seconds']:6.2f} s  {row['name']}", flush=True)
                if args.verbose and not row["first"]:
                    print(f"       {row['matches']}\n       {row['seen']}", flush=True)


def main():
    args = arguments()
    if os.geteuid() != 0:
        print("network namespaces need root: start it with sudo", file=sys.stderr)
        return 2
    try:
        names = [line.strip() for line in args.names.read_text().splitlines() if line.strip()]
    except OSError as error:
        print(f"cannot read the list of names: {error}", file=sys.stderr)
        return 2
    sweep()
    rows = []
    try:
        for at in range(0, len(names), AT_ONCE):
            batch(args, names[at:at + AT_ONCE], rows)
    except (Failed, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1) + "\n")
    count = {key: sum(row[key] for row in rows) for key in ("exact", "first", "sole")}
    mean = sum(row["seconds"] for row in rows) / max(len(rows), 1)
    print(f"{len(rows)} names: {count['exact']} exact, {count['first']} first, {count['sole']} sole; "
          f"{mean:.2f} s a scan, {args.parallel} at a time; {args.out} has the rows")
    return 0


sys.exit(main())
