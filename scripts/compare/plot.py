"""The medians as horizontal bars, in an SVG written by hand: nothing to install, and it scales in a README."""

from html import escape

from figures import OURS, median, quantity

WIDTH, LEFT, RIGHT, BAR, GAP, HEAD = 760, 210, 130, 18, 6, 34
COLORS = {OURS: "#d98e04"}
OTHERS = "#7a8793"

# What is drawn: title, unit, and (measure, name in place of the subject's) for each bar; None draws every subject.
PANELS = [
    ("TCP through a switch, one stream", "Gbit/s", [("tcp1", None)]),
    ("Frames of 64 octets through a switch", "a second", [("frames64", None)]),
    ("Replies of a /16 of hosts that do not exist", "a second", [("echo", "echo, {}"), ("rst", "RST, {}")]),
]


def bars(results, labels, measures):
    """(name, value, color) of each bar, the longest first within a measure."""
    out = []
    for measure, pattern in measures:
        known = [(subject, median(values)) for subject, values in results.get(measure, {}).items()]
        known = [(subject, value) for subject, value in known if value is not None]
        for subject, value in sorted(known, key=lambda pair: -pair[1]):
            name = labels.get(subject, subject)
            out.append(((pattern or "{}").format(name), value, COLORS.get(subject, OTHERS)))
    return out


def svg(results, labels, subtitle):
    """The whole drawing, or None if there is nothing to draw."""
    body, y = [], 30
    for title, unit, measures in PANELS:
        drawn = bars(results, labels, measures)
        if not drawn:
            continue
        y += HEAD
        body.append(f'<text x="10" y="{y - 12}" class="title">{escape(title)}</text>')
        longest = max(value for _, value, _ in drawn)
        for name, value, color in drawn:
            width = max(1, round((WIDTH - LEFT - RIGHT) * value / longest)) if longest > 0 else 1
            middle = y + BAR / 2 + 4
            body.append(f'<text x="{LEFT - 8}" y="{middle}" class="name">{escape(name)}</text>')
            body.append(f'<rect x="{LEFT}" y="{y}" width="{width}" height="{BAR}" fill="{color}"/>')
            body.append(f'<text x="{LEFT + width + 6}" y="{middle}">{escape(quantity(value, unit))}</text>')
            y += BAR + GAP
    if not body:
        return None
    height = y + 30
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        "<style>text{font:13px sans-serif;fill:#24292f}.title{font-weight:bold;font-size:14px}.name{text-anchor:end}"
        ".small{font-size:11px;fill:#57606a}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *body,
        f'<text x="10" y="{height - 12}" class="small">{escape(subtitle)}</text>',
        "</svg>\n",
    ])
