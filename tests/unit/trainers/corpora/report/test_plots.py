import re
import warnings
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest

from tests.unit.trainers.corpora.report.reading import bars as drawn
from tests.unit.trainers.corpora.report.reading import texts
from trainers.corpora.report.plots import DARK, LIGHT, Bar, bars, histogram


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_bars_are_as_long_as_their_values() -> None:
    shown = [
        Bar("a", 400, "400", "kept"),
        Bar("b", 100, "100", "dropped"),
        Bar("c", 0, "0", "near"),
    ]
    widths = [width for width, _ in drawn(ElementTree.fromstring(bars("plot", shown)))]
    assert widths[1] / widths[0] == pytest.approx(1 / 4, rel=1e-3)
    assert widths[2] == 0


def test_bins_are_as_high_as_their_counts_and_empty_ones_stay() -> None:
    plot = ElementTree.fromstring(histogram("plot", {2: 50, 5: 200}, 0, 6))
    heights = [height for _, height in drawn(plot)]
    assert [height / max(heights) for height in heights] == pytest.approx(
        [0, 0, 0.25, 0, 0, 1, 0], abs=1e-3
    )


def test_a_histogram_of_one_bin_is_drawn() -> None:
    plot = ElementTree.fromstring(histogram("plot", {0: 3}, 0, 0))
    assert len(drawn(plot)) == 1
    assert texts(plot)[0] == "0"


def test_sizes_are_written_in_powers_of_two() -> None:
    plot = ElementTree.fromstring(histogram("plot", {1: 1}, 1, 25))
    assert texts(plot)[:7] == ["1", "16", "256", "4k", "64k", "1M", "16M"]


def test_text_is_text_in_every_script_and_without_formulas() -> None:
    labels = ["新闻联播", "$x^2$", "<b>&amp;", "عربي", "very long " * 9]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot = bars("plot", [Bar(label, 1, "1", "kept") for label in labels])
    shown = texts(ElementTree.fromstring(plot))[::2]
    assert shown[:4] == labels[:4]
    assert shown[4] == "very long very long very long…"[:29].rstrip() + "…" or shown[4].endswith(
        "…"
    )


def test_a_wide_label_has_room() -> None:
    """CJK characters are twice as wide: the bars begin further right."""
    starts = []
    for label in ("abcdefgh", "新闻联播天气预报"):
        plot = ElementTree.fromstring(bars("plot", [Bar(label, 1, "1", "kept")]))
        (text, *_) = (element for element in plot.iter() if element.text == label)
        starts.append(float(text.get("x", "")))
    assert starts[1] - starts[0] == pytest.approx(8 * 0.56 * 9, rel=0.01)


def test_the_theme_gives_the_colours() -> None:
    plot = bars("plot", [Bar("a", 1, "1", colour) for colour in ("kept", "dropped", "near")])
    plot += histogram("other", {3: 1}, 1, 5)
    assert not re.search(r"#[0-9a-f]{6}", plot)
    assert {*re.findall(r"var\(--(\w+)\)", plot)} <= set(LIGHT)


@pytest.mark.parametrize(("theme", "page"), [(LIGHT, "#ffffff"), (DARK, "#15181c")])
def test_colours_stand_out_from_the_page(theme: dict[str, str], page: str) -> None:
    """As WCAG 2 asks: 3 for graphics, 4.5 for text."""
    for name, colour in theme.items():
        lighter, darker = sorted((luminance(colour), luminance(page)), reverse=True)
        contrast = (lighter + 0.05) / (darker + 0.05)
        assert contrast >= {"ink": 4.5, "line": 1.2}.get(name, 3), name


def test_plots_of_a_page_share_no_ids() -> None:
    shown = [Bar("a", 1, "1", "kept")]
    ids = [set(re.findall(r' id="([^"]+)"', bars(name, shown))) for name in ("one", "two")]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_matplotlib_is_left_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    bars("plot", [Bar("a", 1, "1", "kept")])
    assert dict(matplotlib.rcParams) == before
