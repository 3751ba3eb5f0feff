"""A training curve as a picture: an SVG of its own, which every browser, hub and forge shows beside the model card."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 28, 40
MOST_POINTS = 400
TICKS = 5


def thinned(losses: Sequence[float], most: int = MOST_POINTS) -> list[tuple[int, float]]:
    """(step, mean loss of the steps since the point before), at most `most` points, the last step among them.

    >>> thinned([4.0, 2.0, 1.0], most=2)
    [(2, 3.0), (3, 1.0)]
    """
    stride = max(1, math.ceil(len(losses) / most))
    parts = [losses[start : start + stride] for start in range(0, len(losses), stride)]
    points, step = [], 0
    for part in parts:
        step += len(part)
        points.append((step, sum(part) / len(part)))
    return points


def smoothed(points: Sequence[tuple[int, float]], share: float = 0.1) -> list[tuple[int, float]]:
    """An exponential mean whose weights sum to 1 from the first point on."""
    mean = weight = 0.0
    line = []
    for step, loss in points:
        mean, weight = (1 - share) * mean + share * loss, (1 - share) * weight + share
        line.append((step, mean / weight))
    return line


def round_steps(highest: float, count: int) -> list[float]:
    """About `count` round numbers from 0 up to `highest`.

    >>> round_steps(600, 5)
    [0, 100, 200, 300, 400, 500, 600]
    """
    rough = highest / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.75)
    return [round(i * step, 10) if step < 1 else int(i * step) for i in range(int(highest / step + 1e-9) + 1)]


def svg(losses: Sequence[float], measured: Sequence[Sequence[float]], best_step: int | None = None) -> str:
    """Loss a step (light), its smoothed line, and the loss on kept-back conversations (dots; the best one filled)."""
    points = [(step, loss) for step, loss in thinned(losses) if math.isfinite(loss)] or [(1, 0.0)]
    last = points[-1][0]
    highest = max([loss for _, loss in points] + [loss for _, loss in measured]) * 1.05 or 1.0

    def x(step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / last, 1)

    def y(loss: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * loss / highest, 1)

    def line(of: Sequence[tuple[int, float]], style: str) -> str:
        return f'<polyline fill="none" {style} points="{" ".join(f"{x(s)},{y(v)}" for s, v in of)}"/>'

    grid = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v)}" y2="{y(v)}" stroke="#ddd"/>'
        f'<text x="{LEFT - 6}" y="{y(v) + 4}" text-anchor="end">{v:g}</text>'
        for v in round_steps(highest, TICKS)
    ]
    axis = [
        f'<text x="{x(s)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{s:g}</text>'
        for s in round_steps(last, TICKS + 1)
    ]
    dots = [
        f'<circle cx="{x(s)}" cy="{y(v)}" r="3.5" stroke="#d45500" fill="{"#d45500" if s == best_step else "#fff"}"/>'
        for s, v in measured
    ]
    legend = "loss a token of the answers, by step" + ("; circles: on conversations kept back" if measured else "")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
            ' font-family="sans-serif" font-size="11" fill="#444" role="img">',
            f"<title>{legend}</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            f'<text x="{LEFT}" y="16" font-size="13">{legend}</text>',
            *grid,
            *axis,
            line(points, 'stroke="#9ecae1" stroke-width="1"'),
            line(smoothed(points), 'stroke="#08519c" stroke-width="2"'),
            *dots,
            "</svg>\n",
        ]
    )
