import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from trainers.tasks.writing.likeness import likeness, tokens


@given(st.text(st.characters(max_codepoint=127)))
def test_words_of_ascii_are_those_of_rouge_score(text: str) -> None:
    assert tokens(text) == DefaultTokenizer().tokenize(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我爱北京", ["我", "爱", "北", "京"]),
        ("Python很好，3.11 too!", ["python", "很", "好", "3", "11", "too"]),
        ("Ça va, Ñandú?", ["ça", "va", "ñandú"]),
        ("ありがとう", ["あ", "り", "が", "と", "う"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("，。 !", []),
    ],
)
def test_words_of_any_script(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_rouge_l_of_english_is_that_of_rouge_score() -> None:
    gold, answer = "The quick brown fox jumps over it.", "the brown quick fox jumps"
    expected = RougeScorer(["rougeL"]).score(gold, answer)["rougeL"].fmeasure
    assert likeness(gold, answer)["rouge_l"] == pytest.approx(expected)


def test_chinese_counts_by_character() -> None:
    """Lin 2004: of 6 and 5 characters, 4 in a common order."""
    found = likeness("今天天气很好", "今天天气坏")
    assert found["rouge_l"] == pytest.approx(2 * 4 / (6 + 5))
    assert 0 < found["chrf"] < 1


@pytest.mark.parametrize("text", ["你好 world", "a", "x y z"])
def test_what_is_equal_is_all_alike(text: str) -> None:
    found = likeness(text, f" {text}\n")
    assert found == {"rouge_l": 1.0, "chrf": 1.0, "exact_match": 1.0}


@pytest.mark.parametrize(("gold", "answer"), [("yes", ""), ("好", "，"), ("abc", "xyz")])
def test_what_has_nothing_in_common_is_not_alike_at_all(gold: str, answer: str) -> None:
    assert likeness(gold, answer) == {"rouge_l": 0.0, "chrf": 0.0, "exact_match": 0.0}
