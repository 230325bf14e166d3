"""Curves and bars in a terminal, of Unicode blocks. Pure."""

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

Point = tuple[float, float]

DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Of a braille cell from the top down: its left column, and its right one."""
BRAILLE = 0x2800
EIGHTHS = " ▏▎▍▌▋▊▉"


def thinned(points: Sequence[Point], count: int) -> list[Point]:
    """At most so many points: the means of neighbours."""
    size = max(1, math.ceil(len(points) / count))
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return [(group[-1][0], statistics.fmean(y for _, y in group)) for group in groups]


def curve(points: Sequence[Point], width: int = 60, height: int = 6) -> list[str]:
    """The points as a line, `width` x `height` characters, two or more each, with the extremes of
    both axes at its edges. Values that are no finite number are left out."""
    finite = [point for point in points if math.isfinite(point[1])]
    if not finite:
        return []
    shown = thinned(finite, 2 * width)
    xs, ys = [x for x, _ in finite], [y for _, y in shown]
    cells = [[BRAILLE] * width for _ in range(height)]
    places = [
        (round(_scaled(x, xs) * (2 * width - 1)), round((1 - _scaled(y, ys)) * (4 * height - 1)))
        for x, y in shown
    ]
    for column, row in _joined(places):
        cells[row // 4][column // 2] |= DOTS[column % 2][row % 4]
    labels = [f"{max(ys):.4g}", *[""] * (height - 2), f"{min(ys):.4g}"]
    margin = max(map(len, labels))
    lines = [
        f"{label:>{margin}} ┤{''.join(map(_character, row)).rstrip()}"
        for label, row in zip(labels, cells, strict=True)
    ]
    first, last = f"{min(xs):,.0f}", f"{max(xs):,.0f}"
    return [*lines, f"{'':{margin}}  {first}{last:>{max(1, width - len(first))}}"]


def bars(shares: Mapping[str, float], width: int = 40) -> list[str]:
    """A bar for each share of a whole."""
    longest = max(map(len, shares), default=0)
    return [
        f"{name:{longest}}  {share:6.1%}  {_bar(share, width)}".rstrip()
        for name, share in shares.items()
    ]


def _character(cell: int) -> str:
    return chr(cell) if cell > BRAILLE else " "  # not all fonts have an empty one


def _bar(share: float, width: int) -> str:
    whole, eighths = divmod(round(share * width * 8), 8)
    return "█" * whole + EIGHTHS[eighths].strip()


def _scaled(value: float, among: Sequence[float]) -> float:
    low, high = min(among), max(among)
    return (value - low) / (high - low) if high > low else 0.5


def _joined(places: Sequence[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """The places and those between neighbours, so that a steep curve has no gaps."""
    yield places[0]
    for (x0, y0), (x1, y1) in itertools.pairwise(places):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        for step in range(1, steps + 1):
            yield (x0 + round((x1 - x0) * step / steps), y0 + round((y1 - y0) * step / steps))
