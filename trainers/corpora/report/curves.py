"""Curves as SVG for an HTML page, whose theme gives their colours and whose fonts their text."""

import dataclasses
import io
import re
from collections.abc import Sequence

VARIABLES = ("ink", "line", "before", "kept", "dropped")
STAND_INS = {name: f"#{number:06x}" for number, name in enumerate(VARIABLES, 1)}
"""Colours that matplotlib draws, in place of the CSS variables of their names."""
SETTINGS = {
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "curves",  # equal curves are equal bytes
    "axes.edgecolor": STAND_INS["line"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": STAND_INS["line"],
    "grid.linewidth": 0.5,
    "xtick.color": STAND_INS["ink"],
    "ytick.color": STAND_INS["ink"],
}


@dataclasses.dataclass(frozen=True)
class Curve:
    points: Sequence[tuple[float, float]]
    colour: str
    """A CSS variable of the page."""
    dotted: bool = False
    """Each point is marked: they are few."""


def curves(shown: Sequence[Curve], marks: Sequence[float] = ()) -> str:
    """Curves over the same axis, with thin upright lines at `marks`."""
    import matplotlib
    from matplotlib.figure import Figure

    written = io.StringIO()
    with matplotlib.rc_context(SETTINGS):  # type: ignore[arg-type]
        figure = Figure(figsize=(4.7, 1.9), layout="constrained")
        axes = figure.subplots()
        for mark in marks:
            axes.axvline(mark, color=STAND_INS["before"], linewidth=0.8, linestyle="dashed")
        for curve in shown:
            steps, values = zip(*curve.points, strict=True)
            marker = "o" if curve.dotted else None
            axes.plot(steps, values, color=STAND_INS[curve.colour], marker=marker, markersize=3.5)
        axes.locator_params("x", nbins=5, integer=True)
        axes.locator_params("y", nbins=4)
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    svg = written.getvalue()
    svg = re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :])  # ids are one page's
    for name, colour in STAND_INS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg
