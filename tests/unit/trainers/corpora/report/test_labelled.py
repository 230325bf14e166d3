from typing import Any

from tests.unit.trainers.corpora.report.reading import Read, plots, texts
from trainers.corpora.report.labelled import labelled_page

COUNTS: dict[str, Any] = {
    "read": 3512,
    "dropped": {"exact duplicate": 1771, "two labels": 4},
    "kept": 1737,
    "train": 1387,
    "validation": 173,
    "test": 177,
    "balance": {"negative": 903, "positive": 834},
}


def test_every_figure_is_on_the_page() -> None:
    page = labelled_page(COUNTS, "examples/demo-examples-0123456789ab")
    text = Read(page).text
    assert "examples/demo-examples-0123456789ab" in text
    for count in (3512, 1771, 4, 1737, 1387, 173, 177, 903, 834):
        assert f"{count:,}" in text
    assert texts(plots(page)[1]) == ["negative", "903 (52.0%)", "positive", "834 (48.0%)"]


def test_of_many_labels_the_largest_are_plotted() -> None:
    balance = {f"class <{number}>": number for number in range(1, 101)}
    page = labelled_page({**COUNTS, "balance": balance, "kept": 5050}, "examples/demo")
    assert texts(plots(page)[1])[:2] == ["class <100>", "100 (2.0%)"]
    assert "86 other labels" in texts(plots(page)[1])
    assert set(balance) <= set(Read(page).cells)
