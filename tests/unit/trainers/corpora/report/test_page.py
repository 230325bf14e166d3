"""What every page has: bars, colours, numbers."""

import re

import pytest

from tests.unit.trainers.corpora.report.reading import Read
from trainers.corpora.report.page import Bar, Plot, Section, render, share


def page_of(*bars: Bar) -> str:
    return render("Title", "kind/name", {"count": 1234567}, [Section("A", plots=[Plot("", bars)])])


def test_numbers() -> None:
    assert "1,234,567" in Read(page_of(Bar("a", 1, "", "kept"))).text
    shares = [share(1, 3), share(0, 3), share(1, 3000), share(3, 3), share(0, 0)]
    assert shares == ["33.3%", "0.0%", "<0.1%", "100.0%", "–"]


def test_bars_are_as_long_as_their_values() -> None:
    page = page_of(Bar("a", 400, "", "kept"), Bar("b", 100, "", "kept"), Bar("c", 0, "", "near"))
    widths = [float(width) for width in re.findall(r"flex: 0 1 ([0-9.]+)%", page)]
    assert widths == [60, 15, 0]
    assert "flex: 0 1 0.00%" in page_of(Bar("none", 0, "", "kept"))


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out_from_the_page(theme: int) -> None:
    """As WCAG 2 asks: 3 for graphics, 4.5 for text."""
    found = re.findall(r"--(\w+): (#[0-9a-f]{6});", page_of(Bar("a", 1, "", "kept")))
    assert len(found) == 18
    colours = dict(found[9 * theme : 9 * theme + 9])
    for name in ("kept", "dropped", "near", "before", "ink", "soft"):
        pair = (luminance(colours[name]), luminance(colours["page"]))
        contrast = (max(pair) + 0.05) / (min(pair) + 0.05)
        assert contrast >= (4.5 if name in ("ink", "soft") else 3), name
