"""Distributions as curves of cumulative share, a panel for each measure, in an SVG written by hand."""

from html import escape

COLORS = {
    "emulated, first contact": "#d98e04",
    "emulated, tenth contact": "#b3410e",
    "container": "#2a78b5",
    "real host": "#24292f",
}
WIDTH, HEIGHT, PAD, HEAD = 360, 200, 40, 30


def svg(found, measures, wire):
    body = []
    for number, measure in enumerate(measures):
        x, y = (number % 2) * (WIDTH + PAD) + PAD, (number // 2) * (HEIGHT + 2 * PAD) + HEAD + 10
        every = sorted(time for of in found.values() for time in of[measure])
        low, high = every[len(every) // 200], every[-1 - len(every) // 50]
        span = max(high - low, 1)
        body.append(f'<text x="{x}" y="{y - 8}" class="title">{escape(measure)}</text>')
        body.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#d0d7de"/>')
        for part in range(5):
            at = x + WIDTH * part / 4
            body.append(f'<text x="{at:.0f}" y="{y + HEIGHT + 16}" class="mid">{low + span * part / 4:.0f} µs</text>')
        for who, color in COLORS.items():
            times = sorted(found[who][measure])
            points = []
            for at in range(0, len(times), max(1, len(times) // 200)):
                place = min(max((times[at] - low) / span, 0), 1)
                points.append(f"{x + WIDTH * place:.1f},{y + HEIGHT * (1 - at / len(times)):.1f}")
            body.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{color}" stroke-width="1.6"/>')
    width, height = 2 * (WIDTH + PAD) + PAD, 2 * (HEIGHT + 2 * PAD) + HEAD + 20
    for number, (who, color) in enumerate(COLORS.items()):
        at = PAD + number * 195
        body.append(f'<rect x="{at}" y="{height - 34}" width="12" height="12" fill="{color}"/>')
        body.append(f'<text x="{at + 18}" y="{height - 24}">{escape(who)}</text>')
    body.append(f'<text x="{PAD}" y="{height - 6}" class="mid" style="text-anchor:start">share of answers that have '
                f"come by then; wire: {escape(wire)} in each direction</text>")
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        "<style>text{font:13px sans-serif;fill:#24292f}.title{font-weight:bold}"
        ".mid{font-size:11px;fill:#57606a;text-anchor:middle}</style>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *body,
        "</svg>\n",
    ])
