from typing import Any

from tests.unit.trainers.corpora.report.reading import Read
from trainers.corpora.report.examples import labelled_page

COUNTS: dict[str, Any] = {
    "read": 3512,
    "dropped": {"exact duplicate": 1771, "two labels": 4},
    "kept": 1737,
    "train": 1387,
    "validation": 173,
    "test": 177,
    "labels": {
        "negative": {"train": 721, "validation": 90, "test": 92},
        "positive": {"train": 666, "validation": 83, "test": 85},
    },
    "samples": {"exact duplicate": ["很好"], "two labels": ["不错 <b>"]},
}


def test_every_figure_is_on_the_page() -> None:
    page = Read(labelled_page(COUNTS, "examples/demo-examples-0123456789ab"))
    text = page.text
    assert "examples/demo-examples-0123456789ab" in text
    for count in (3512, 1771, 4, 1737, 1387, 173, 177, 903, 834, 721, 83):
        assert f"{count:,}" in text
    assert {"很好", "不错 <b>"} <= {sample.strip() for sample in text.splitlines()}
    assert page.plots[1] == {"negative": "903 (52.0%)", "positive": "834 (48.0%)"}


def test_of_many_labels_the_largest_are_plotted() -> None:
    labels = {
        f"class <{number}>": {"train": number, "validation": 0, "test": 0}
        for number in range(1, 101)
    }
    page = Read(labelled_page({**COUNTS, "labels": labels, "kept": 5050}, "examples/demo"))
    assert [*page.plots[1]] == [f"class <{number}>" for number in range(100, 85, -1)]
    assert page.plots[1]["class <100>"] == "100 (2.0%)"
    assert set(labels) <= set(page.cells)


def test_weak_labels_are_told_by_function() -> None:
    figures = {"coverage": 0.5, "overlaps": 0.25, "conflicts": 0.125}
    weak = {"documents": 9, "coverage": 0.75, "accuracy": 0.8765, "functions": {"words": figures}}
    cells = Read(labelled_page({**COUNTS, "weak_labels": {"web": weak}}, "examples/demo")).cells
    assert {"words", "50.0%", "25.0%", "12.5%", "together", "75.0%", "87.6%"} <= set(cells)
