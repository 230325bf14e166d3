"""Plots as SVG for an HTML page: its theme gives their colours, its fonts draw their text.

matplotlib lays out with its own font, which lacks many scripts; so margins follow the columns that
a label takes, and the browser draws the letters.
"""

import dataclasses
import io
import itertools
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainers.corpora.report.formatting import columns, cut, power_of_two, short

LIGHT = {
    "kept": "#0072b2",
    "dropped": "#d55e00",
    "near": "#aa4499",
    "before": "#8a929c",
    "ink": "#1c2127",
    "line": "#ccd1d7",
}
"""Colours by what they mean, told apart by the colour-blind (Okabe & Ito; Tol). Here they are
those of the light theme; in the SVG each is the CSS variable of its name."""
DARK = {
    "kept": "#56b4e9",
    "dropped": "#f08a3c",
    "near": "#d98cc3",
    "before": "#89929e",
    "ink": "#e6e9ed",
    "line": "#444b55",
}
WIDTH = 4.7
"""Inches; 451 pixels of the page."""
LABEL_COLUMNS = 30
"""A longer label is cut."""
TICKS = 7
POINTS = 9.0
COLUMN = 0.56 * POINTS / 72
"""Inches that a column of text takes."""


@dataclasses.dataclass(frozen=True)
class Bar:
    label: str
    """Empty for a further bar of the same thing."""
    value: float
    note: str
    """Stands at the bar's end."""
    colour: str


def bars(name: str, shown: Sequence[Bar]) -> str:
    """Horizontal bars from the top down. `name` is this plot's own among those of a page."""
    labels = [cut(bar.label, LABEL_COLUMNS) for bar in shown]
    places = _places(labels)
    height = 0.25 * (places[-1] + 1) + 0.06
    left = COLUMN * (max(map(columns, labels)) + 1.5) / WIDTH
    right = COLUMN * (max(columns(bar.note) for bar in shown) + 1.5) / WIDTH
    most = max(bar.value for bar in shown) or 1.0

    def draw(axes: Any) -> None:
        axes.set_position((left, 0, 1 - left - right, 1))
        axes.set_axis_off()
        axes.set_xlim(0, most)
        axes.set_ylim(places[-1] + 0.55, -0.55)
        axes.axvline(0, color=LIGHT["line"], linewidth=0.8)
        for place, label, bar in zip(places, labels, shown, strict=True):
            axes.barh(place, bar.value, 0.72, color=LIGHT[bar.colour])
            for x, text, side in ((0, label, "right"), (bar.value, bar.note, "left")):
                axes.annotate(
                    text,
                    (x, place),
                    xytext=(-5 if side == "right" else 5, 0),
                    textcoords="offset points",
                    ha=side,
                    va="center_baseline",
                    color=LIGHT["ink"],
                    annotation_clip=False,
                )

    return _svg(name, height, draw)


def histogram(name: str, counts: Mapping[int, int], lowest: int, highest: int) -> str:
    """Documents by bit length of their size, from bin `lowest` to bin `highest`: bin k counts those
    of 2^(k-1) up to 2^k, bin 0 those of size 0."""

    def draw(axes: Any) -> None:
        axes.set_position((0.13, 0.13, 0.85, 0.82))
        shown = range(lowest, highest + 1)
        axes.bar(
            [k - 1 for k in shown],
            [counts.get(k, 0) for k in shown],
            width=0.92,
            align="edge",
            color=LIGHT["kept"],
        )
        axes.set_xlim(lowest - 1.1, highest + 0.1)
        edges = range(lowest - 1, highest + 1, max(1, -(-(highest - lowest + 2) // TICKS)))
        axes.set_xticks([*edges], ["0" if edge < 0 else power_of_two(edge) for edge in edges])
        axes.yaxis.set_major_locator(_whole_numbers())
        axes.yaxis.set_major_formatter(lambda value, _: short(value))
        _plain(axes)

    return _svg(name, 1.9, draw)


@dataclasses.dataclass(frozen=True)
class Curve:
    points: Sequence[tuple[float, float]]
    colour: str
    dotted: bool = False
    """Each point is marked: they are few."""


def curves(name: str, shown: Sequence[Curve], marks: Sequence[float] = ()) -> str:
    """Curves over the same axis, with thin upright lines at `marks`."""

    def draw(axes: Any) -> None:
        axes.set_position((0.13, 0.13, 0.85, 0.82))
        for mark in marks:
            axes.axvline(mark, color=LIGHT["before"], linewidth=0.8, linestyle=(0, (2, 2)))
        for curve in shown:
            axes.plot(
                *zip(*curve.points, strict=True),
                color=LIGHT[curve.colour],
                linewidth=1.4,
                marker="o" if curve.dotted else None,
                markersize=3.5,
            )
        axes.xaxis.set_major_locator(_whole_numbers())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: short(value))
        _plain(axes)

    return _svg(name, 1.9, draw)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LIGHT["line"])
    axes.tick_params(colors=LIGHT["ink"], length=0)
    axes.grid(axis="y", color=LIGHT["line"], linewidth=0.5)
    axes.set_axisbelow(True)


def _places(labels: Sequence[str]) -> list[float]:
    """Of bars from the top down: those of the same thing closer together than different things."""
    if all(labels):
        return [float(place) for place in range(len(labels))]
    steps = [1.45 if label else 0.86 for label in labels]
    return [place - steps[0] for place in itertools.accumulate(steps)]


def _whole_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4, steps=[1, 2, 5, 10], integer=True)


def _svg(name: str, height: float, draw: Callable[[Any], None]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same layout everywhere
        "font.size": POINTS,
        "svg.fonttype": "none",
        "svg.hashsalt": name,  # ids are the page's: each plot needs its own
        "text.parse_math": False,
    }
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    written = io.StringIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(WIDTH, height))
        draw(figure.subplots())
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    svg = written.getvalue()
    svg = re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :])
    for colour, value in LIGHT.items():
        svg = svg.replace(f": {value}", f": var(--{colour})")
    return svg
