import math

from cluster.cli.drawing import bars, curve, thinned


def test_a_curve_has_its_extremes_at_its_edges() -> None:
    lines = curve([(step, 8 - step / 20) for step in range(1, 101)], width=10, height=3)
    assert lines[0].startswith("7.85 ┤"), "of the means that are drawn"
    assert lines[2].startswith(" 3.1 ┤")
    assert lines[3].split() == ["1", "100"]


def test_curves_fall_and_rise() -> None:
    falling = curve([(0, 1.0), (1, 0.0)], width=4, height=2)
    rising = curve([(0, 0.0), (1, 1.0)], width=4, height=2)
    assert falling[:2] == ["1 ┤⠑⢄", "0 ┤  ⠑⢄"]
    assert rising[:2] == ["1 ┤  ⡠⠊", "0 ┤⡠⠊"]


def test_few_points_and_none() -> None:
    assert curve([]) == []
    assert curve([(1, math.nan), (2, math.inf)]) == []
    assert curve([(5, 2.0)], width=3, height=2)[0].startswith("2 ┤")


def test_means_of_neighbours() -> None:
    points = [(float(step), float(step)) for step in range(1, 11)]
    assert thinned(points, 5) == [(2, 1.5), (4, 3.5), (6, 5.5), (8, 7.5), (10, 9.5)]
    assert thinned(points, 4) == [(3, 2), (6, 5), (9, 8), (10, 10)]
    assert thinned(points, 20) == points


def test_bars_follow_their_shares() -> None:
    assert bars({"compute": 0.75, "idle": 0.25, "export": 0.01, "lost": 0.0}, width=8) == [
        "compute   75.0%  ██████",
        "idle      25.0%  ██",
        "export     1.0%  ▏",
        "lost       0.0%",
    ]
