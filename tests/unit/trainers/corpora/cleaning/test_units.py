import pytest

from trainers.corpora.cleaning.units import is_cjk, units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("这本书 good!", ["这", "本", "书", "good"]),
        ("it's 3.5 kg", ["it", "s", "3", "5", "kg"]),
        ("カメラとπ_x", ["カ", "メ", "ラ", "と", "π", "x"]),
        ("？！", []),
    ],
)
def test_characters_and_words_are_units(text: str, expected: list[str]) -> None:
    assert units(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("很好 very good", False),
        ("很好的 good", True),
        ("plain words", False),
        ("naïve café", False),
        ("！？", False),
        ("", False),
    ],
)
def test_a_text_is_cjk_if_most_units_are(text: str, expected: bool) -> None:
    assert is_cjk(text) is expected
