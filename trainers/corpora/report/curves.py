"""Curves over steps."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainers.corpora.report.picture import STAND_INS, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True)
class Curve:
    points: Sequence[tuple[float, float]]
    colour: str
    """A CSS variable of the page."""
    dotted: bool = False
    """Each point is marked: they are few."""


def curves(shown: Sequence[Curve], marks: Sequence[float] = ()) -> str:
    """Curves over the same axis, with thin upright lines at `marks`."""

    def draw(axes: "Axes") -> None:
        for mark in marks:
            axes.axvline(mark, color=STAND_INS["before"], linewidth=0.8, linestyle="dashed")
        for curve in shown:
            steps, values = zip(*curve.points, strict=True)
            marker = "o" if curve.dotted else None
            axes.plot(steps, values, color=STAND_INS[curve.colour], marker=marker, markersize=3.5)
        axes.locator_params("x", nbins=5, integer=True)
        axes.locator_params("y", nbins=4)

    return picture(draw)
