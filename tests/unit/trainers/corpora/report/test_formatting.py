import pytest

from trainers.corpora.report.formatting import (
    bit_length,
    columns,
    cut,
    number,
    one_line,
    power_of_two,
    share,
    short,
)


def test_numbers() -> None:
    assert number(1234567) == "1,234,567"
    assert [share(1, 3), share(0, 3), share(1, 3000), share(3, 3), share(0, 0)] == [
        "33.3%",
        "0.0%",
        "<0.1%",
        "100.0%",
        "–",
    ]
    assert [short(value) for value in (0, 7, 1500, 2e6, 3.21e9)] == [
        "0",
        "7",
        "1.5k",
        "2M",
        "3.21G",
    ]
    assert [power_of_two(k) for k in (0, 9, 10, 14, 20)] == ["1", "512", "1k", "16k", "1M"]
    assert [bit_length(k) for k in (1, 2, 11)] == ["1", "2 to 3", "1,024 to 2,047"]


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("short", 5, "short"),
        ("longer", 5, "long…"),
        ("新闻联播", 8, "新闻联播"),
        ("新闻联播", 6, "新闻…"),
    ],
)
def test_long_labels_are_cut_by_the_columns_they_take(text: str, limit: int, shown: str) -> None:
    assert cut(text, limit) == shown
    assert columns(shown) <= limit


def test_names_stay_on_one_line() -> None:
    assert one_line("a\nb\r\u2028c") == "a b⟨U+000D⟩⟨U+2028⟩c"
