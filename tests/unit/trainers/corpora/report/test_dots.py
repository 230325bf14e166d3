import re

import pytest

from tests.unit.trainers.corpora.report.reading import Read
from trainers.corpora.report.dots import Dot, Dots
from trainers.corpora.report.page import Plot, Section, Table, render


def test_the_axis_shows_every_value_at_round_ticks() -> None:
    dots = Dots(
        [Dot("a", 0.82, [0.797, 0.843], "", "kept"), Dot("b", 0.91, None, "", "before")], mark=0.85
    )
    first, *_, last = dots.ticks
    assert first <= 0.797
    assert last >= 0.91
    assert float(dots.place(first)) == 0
    assert float(dots.place(last)) == 100
    assert float(dots.place(0.82)) + float(dots.place(0.82, "right")) == pytest.approx(100)
    texts = [dots.text(tick) for tick in dots.ticks]
    assert len({*texts}) == len(texts)
    assert [float(text) for text in texts] == pytest.approx(dots.ticks)


def test_one_value_has_an_axis_around_it() -> None:
    dots = Dots([Dot("a", 1.0, [1.0, 1.0], "", "kept")])
    assert dots.ticks[0] < 1.0 < dots.ticks[-1]


def test_dots_stand_at_their_values() -> None:
    dots = Dots([Dot("好", 0.5, [0.25, 0.75], "half", "kept")], mark=0.25)
    page = render("Title", "kind/name", {}, [Section("A", plots=[Plot("", dots=dots)])])
    (whisker,) = re.findall(r'<s style="left: ([0-9.]+)%; right: ([0-9.]+)%', page)
    (point,) = re.findall(r'<i style="left: ([0-9.]+)%; background: var\(--kept\)"></i>', page)
    (mark,) = re.findall(r'<u style="left: ([0-9.]+)%', page)
    assert (float(mark), float(whisker[0])) == (float(whisker[0]), float(whisker[1]))
    assert float(point) == pytest.approx(50, abs=0.01)
    assert {"好", "half"} <= {*Read(page).text.splitlines()}


def test_cells_are_as_dark_as_they_are_told() -> None:
    table = Table("", ("", "a", "b"), [["a", 9, 1], ["b", 0, 4]], shades=[[0.9, -0.1], [0, 1]])
    page = render("Title", "kind/name", {}, [Section("A", tables=[table])])
    assert re.findall(r"var\(--(\w+)\) (\d+)%", page) == [
        ("kept", "54"),
        ("dropped", "6"),
        ("kept", "0"),
        ("kept", "60"),
    ]
    assert Read(page).cells == ["a", "9", "1", "b", "0", "4"]
