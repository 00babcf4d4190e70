"""What the figures mean: medians, ratios, what is asked for, rows. Nothing here touches the machine.

A measure gives one value a round for each subject (a switch, or who answers). A comparison picks a
measure and a peer and may ask for something: a ratio to the peer's median, or a bound of the value itself.
"""

from dataclasses import dataclass

OURS = "honeyweave"


def median(values):
    """The middle of the values that are there, or the mean of the two middle ones; None if there is none."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    half = len(known) // 2
    return known[half] if len(known) % 2 else (known[half - 1] + known[half]) / 2


def ratio(ours, theirs):
    """How many times theirs ours is; None where that has no meaning."""
    if ours is None or theirs is None or theirs <= 0:
        return None
    return ours / theirs


def rotated(items, by):
    """The items, beginning with another one in each round."""
    items = list(items)
    by %= max(len(items), 1)
    return items[by:] + items[:by]


@dataclass(frozen=True)
class Ask:
    """What is asked for: `subject` is `ratio` or `value`, `sign` is `>=` or `<=`."""

    subject: str
    sign: str
    bound: float
    aim: bool = False

    def text(self, unit):
        sign = {">=": "≥", "<=": "≤"}[self.sign]
        what = f"{self.bound:g} ×" if self.subject == "ratio" else quantity(self.bound, unit)
        return f"{sign} {what}" + (" (aim)" if self.aim else "")

    def met(self, value, times):
        got = times if self.subject == "ratio" else value
        if got is None:
            return None
        return got >= self.bound if self.sign == ">=" else got <= self.bound


def at_least(bound, aim=False):
    return Ask("ratio", ">=", bound, aim)


def at_most(bound):
    return Ask("ratio", "<=", bound)


def no_less_than(bound):
    return Ask("value", ">=", bound)


def no_more_than(bound):
    return Ask("value", "<=", bound)


@dataclass(frozen=True)
class Comparison:
    """A row to be: `measure` of honeyweave against that of `peer` (or a constant)."""

    group: str
    what: str
    unit: str
    measure: str
    peer: str = None
    ask: Ask = None
    constant: float = None
    # Subtracts this subject's median from both sides: what is added to it.
    above: str = None


def row(comparison, results, labels, missing):
    """One row of the report. `results` is {measure: {subject: [value a round]}}."""
    c = comparison
    rounds = results.get(c.measure, {})

    def value(subject):
        middle = median(rounds.get(subject, []))
        if middle is None or c.above is None:
            return middle
        base = median(rounds.get(c.above, []))
        return None if base is None else middle - base

    ours = value(OURS)
    theirs = c.constant if c.constant is not None else value(c.peer) if c.peer else None
    times = ratio(ours, theirs)
    note = missing.get((c.measure, OURS)) if ours is None else None
    if note is None and c.constant is None and c.peer and theirs is None:
        note = missing.get((c.measure, c.peer))
    return {
        "group": c.group,
        "what": c.what,
        "unit": c.unit,
        "honeyweave": ours,
        "peer": labels.get(c.peer, c.peer),
        "peer_value": theirs,
        "ratio": times,
        "asked": c.ask.text(c.unit) if c.ask else None,
        "met": c.ask.met(ours, times) if c.ask else None,
        "note": note,
    }


def rows(comparisons, results, labels, missing):
    """All rows, leaving out those of which nothing was to be measured."""
    touched = set(results) | {measure for measure, _ in missing}
    return [row(c, results, labels, missing) for c in comparisons if c.measure in touched]


def quantity(value, unit):
    """A value with its unit, as people write it: three digits where that many mean something."""
    if value is None:
        return "—"
    magnitude = abs(value)
    if magnitude >= 1000:
        text = f"{value:,.0f}"
    elif magnitude >= 100 or value == int(value):
        text = f"{value:.0f}"
    else:
        text = f"{value:.2f}" if magnitude < 10 else f"{value:.1f}"
    return f"{text} {unit}".strip()


def verdict(row):
    """What a person reads in the last column."""
    if row["honeyweave"] is None or row["note"]:
        return row["note"] or "not measured"
    if row["met"] is None:
        return ""
    return "yes" if row["met"] else "no"


HEADINGS = ("what", "honeyweave", "peer", "its figure", "ratio", "asked", "met")


def cells(row):
    """The columns of a row as text."""
    times = "—" if row["ratio"] is None else f"{row['ratio']:.2f}"
    unit = row["unit"]
    return (
        row["what"],
        quantity(row["honeyweave"], unit),
        row["peer"] or "—",
        quantity(row["peer_value"], unit),
        times,
        row["asked"] or "",
        verdict(row),
    )


def table(rows):
    """For a terminal."""
    lines = [HEADINGS] + [cells(row) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADINGS))]
    out = ["  ".join(cell.ljust(width) for cell, width in zip(lines[0], widths)).rstrip().upper()]
    for line in lines[1:]:
        out.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    return "\n".join(out) + "\n"


def markdown(header, rows):
    """For the README: one table for each group."""
    out = [f"Measured by `make compare` on {header['date'][:10]}: {header['cpu']}, {header['cpus']} processors, "
           f"Linux {header['kernel']}; medians of {header['rounds']} rounds in which all take turns. {header['versions']}.", ""]
    group = None
    for row in rows:
        if row["group"] != group:
            group = row["group"]
            out += ([""] if len(out) > 2 else []) + [
                f"| {group} | honeyweave | against | its figure | ratio | asked | met |",
                "|---|---|---|---|---|---|---|",
            ]
        out.append("| " + " | ".join(cells(row)) + " |")
    return "\n".join(out) + "\n"


def between_markers(text, begin, end, new):
    """`text` with what stands between two marks replaced; both must be there, once, in order."""
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"there must be one {begin} and after it one {end}")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n{new}{end}{after}"
