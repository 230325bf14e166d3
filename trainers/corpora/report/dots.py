"""Values with their intervals, as dots with whiskers over one axis."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

TICKS = 5
"""Steps of the axis, about."""


@dataclasses.dataclass(frozen=True)
class Dot:
    label: str
    value: float
    interval: Sequence[float] | None
    """From and to, or no whisker."""
    note: str
    """Stands at the end of the row."""
    colour: str
    """A CSS variable of the page."""


@dataclasses.dataclass(frozen=True)
class Dots:
    rows: Sequence[Dot]
    mark: float | None = None
    """A value that all are to be seen beside, as an upright line."""

    @functools.cached_property
    def ticks(self) -> list[float]:
        """Round numbers, from the first to the last of the axis, which shows every value."""
        from matplotlib.ticker import MaxNLocator

        shown = [value for dot in self.rows for value in (dot.value, *(dot.interval or ()))]
        shown += [] if self.mark is None else [self.mark]
        low, high = min(shown), max(shown)
        if low == high:
            low, high = low - 0.005, high + 0.005
        locator = MaxNLocator(TICKS, steps=[1, 2, 2.5, 5, 10])
        return [float(tick) for tick in locator.tick_values(low, high)]

    def place(self, value: float, side: Literal["left", "right"] = "left") -> str:
        """How far a value is from a side of the axis, in per cent."""
        first, last = self.ticks[0], self.ticks[-1]
        share = (value - first) / (last - first)
        return f"{100 * (share if side == 'left' else 1 - share):.2f}"

    def text(self, tick: float) -> str:
        """With as many digits as tell the ticks apart."""
        step = self.ticks[1] - self.ticks[0]
        digits = next((n for n in range(7) if abs(step * 10**n - round(step * 10**n)) < 1e-6), 7)
        return f"{tick:.{digits}f}"
