import pytest

from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.invisible import without_controls
from trainers.corpora.cleaning.rules import normalize

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
DOCTOR = "\U0001f469\U0001f3fd\u200d\u2695\ufe0f"
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ufeff很\u200b好\u2060", "很好"),
        ("soft\u00adhyphen", "softhyphen"),
        ("\u202egnp.exe\u202c", "gnp.exe"),
        ("\u2066a\u2069\u200e\u200f\u061c", "a"),
        ("很\u200d好\u200c吗", "很好吗"),
        ("pass\u200dword", "password"),
        ("hi\U000e0068\U000e0069\U000e007f", "hi"),
        ("\u200d\u200c", ""),
        ("好\u200d\U0001f44d", "好\U0001f44d"),
    ],
)
def test_what_nobody_sees_goes(text: str, expected: str) -> None:
    assert without_controls(text) == expected
    assert without_controls(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian: I do not want
        "\u0647\u200d.",  # an Arabic letter in the form that joins
        "\u0915\u094d\u200d\u0937",  # Devanagari: a half letter
        "\u0915\u094d\u200c\u0937",  # and none
        "\u0dc1\u0dca\u200d\u0dbb\u0dd3",  # Sinhala: Sri
        FAMILY,
        DOCTOR,
        ENGLAND,
        f"我们{FAMILY}很好{DOCTOR}",
    ],
)
def test_what_scripts_and_emoji_need_stays(text: str) -> None:
    assert without_controls(text) == text
    assert without_controls(f"\u200b{text}\u200e") == text


def test_texts_that_differ_in_nothing_seen_are_equal() -> None:
    assert normalize("e\u200b\u0301t\u00e9", Clean()) == normalize("\u00e9te\u0301", Clean())
