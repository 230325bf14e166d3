"""What matplotlib draws, as SVG for an HTML page, whose theme gives its colours and whose fonts its
text."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VARIABLES = ("ink", "line", "before", "kept", "dropped")
STAND_INS = {name: f"#{number:06x}" for number, name in enumerate(VARIABLES, 1)}
"""Colours that matplotlib draws, in place of the CSS variables of their names."""
SETTINGS = {
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "curves",  # equal pictures are equal bytes
    "axes.edgecolor": STAND_INS["line"],
    "axes.labelcolor": STAND_INS["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": STAND_INS["line"],
    "grid.linewidth": 0.5,
    "xtick.color": STAND_INS["ink"],
    "ytick.color": STAND_INS["ink"],
}


def picture(draw: Callable[["Axes"], None], width: float = 4.7, height: float = 1.9) -> str:
    """Of so many inches. Its text is to be of Latin script: the size of other glyphs is not known
    when it is drawn."""
    import matplotlib
    from matplotlib.figure import Figure

    written = io.StringIO()
    with matplotlib.rc_context(SETTINGS):  # type: ignore[arg-type]
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    svg = written.getvalue()
    svg = re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :])  # ids are one page's
    for name, colour in STAND_INS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg
