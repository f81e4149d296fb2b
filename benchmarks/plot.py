"""A drawing in plain SVG: bulk speed against the limits."""

from html import escape

from benchmarks.report import Report

WIDTH, BAR, LEFT, RIGHT = 760, 26, 230, 90
OURS, THEIRS, LIMIT, INK = "#2563eb", "#94a3b8", "#dc2626", "#334155"
LIMITS = (("fp32_limit", "fp32 limit"), ("int8_limit", "int8 limit"))


def bulk_speed(report: Report) -> str:
    """Draw the tokens/s of everybody as bars, and the processor's limits as lines."""
    speeds = {
        name: speed
        for name in report.titles
        if (speed := report.figures.median(name, "bulk_tokens_per_second"))
    }
    limits = [
        (words, limit)
        for name, words in LIMITS
        if (limit := report.figures.median(name, "tokens_per_second"))
    ]
    if not speeds:
        return ""
    scale = (WIDTH - LEFT - RIGHT) / (
        1.25 * max([*speeds.values(), limits[0][1] if limits else 0])
    )
    height = 60 + len(speeds) * (BAR + 10)
    parts = [_text(LEFT, 20, "Tokens/s, bulk corpus over HTTP", weight="bold")]
    for words, limit in limits:
        x, label = LEFT + limit * scale, f"{words} {limit:,.0f}"
        if x > WIDTH - 12:  # a limit far beyond every server is only named
            parts.append(_text(WIDTH - 12, 20, f"{label} →", anchor="end", color=LIMIT))
            continue
        parts += [
            f'<line x1="{x:.0f}" y1="30" x2="{x:.0f}" y2="{height - 22}" stroke="{LIMIT}" stroke-dasharray="4 3"/>',
            _text(x, height - 8, label, anchor="end", color=LIMIT),
        ]
    for row, (name, speed) in enumerate(
        sorted(speeds.items(), key=lambda item: -item[1])
    ):
        top = 36 + row * (BAR + 10)
        color = OURS if name in ("exact", "fast") else THEIRS
        parts += [
            _text(LEFT - 10, top + 18, report.titles[name], anchor="end"),
            f'<rect x="{LEFT}" y="{top}" width="{speed * scale:.0f}" height="{BAR}" fill="{color}"/>',
            _text(LEFT + speed * scale + 6, top + 18, f"{speed:,.0f}"),
        ]
    return _svg(height, parts)


PLOTS = {"performance.svg": bulk_speed}


def _text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    weight: str = "normal",
    color: str = INK,
) -> str:
    """Write words with a white rim, so that they can be read across a line that was drawn before."""
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-weight="{weight}" fill="{color}"'
        ' stroke="white" stroke-width="4" paint-order="stroke">'
        f"{escape(words)}</text>"
    )


def _svg(height: float, parts: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}"'
        ' font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"
