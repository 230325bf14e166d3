from typing import Any

import pytest

from tests.fakes import TEXTS
from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens import fertility
from trainers.corpora.tokens.fertility import KINDS
from trainers.corpora.tokens.tokenizer import encode, train


def kind_of(tokenizer: Any, *tokens: str) -> list[str]:
    of_token = fertility.kinds(tokenizer)
    return [KINDS[of_token[tokenizer.convert_tokens_to_ids(token)]] for token in tokens]


def test_tokens_have_kinds(tokenizer: Any) -> None:
    found = kind_of(tokenizer, "[UNK]", "<0xE4>", "好", ",", "The", "[SEP]")
    assert found == ["unknown", "byte", "character", "character", "piece", "piece"]


def test_a_continued_character_is_one_character() -> None:
    made = train(TEXTS * 4, Tokenizer(algorithm="wordpiece", vocabulary_size=400), 64)
    assert kind_of(made, "##e", "hello") == ["character", "piece"]


def test_counts_add_up_and_shares_are_of_all_tokens(tokenizer: Any) -> None:
    of_token = fertility.kinds(tokenizer)
    encoded = encode(tokenizer.backend_tokenizer, [*TEXTS, "The 龘", "好"])
    whole = fertility.count(of_token, encoded)
    assert fertility.count(of_token, encoded[:3]) + fertility.count(of_token, encoded[3:]) == +whole
    assert whole.total() == sum(map(len, encoded))
    # The | space | three bytes; and 好
    assert fertility.shares(fertility.count(of_token, encoded[-2:])) == {
        "unknown_tokens": 0,
        "byte_tokens": pytest.approx(3 / 6),
        "single_character_tokens": pytest.approx(2 / 6),
    }


def test_unknown_tokens_are_counted() -> None:
    made = train(TEXTS * 4, Tokenizer(algorithm="wordpiece", vocabulary_size=400), 64)
    found = fertility.count(fertility.kinds(made), encode(made.backend_tokenizer, ["好龘好"]))
    assert fertility.shares(found)["unknown_tokens"] == pytest.approx(1 / 3)


def test_no_tokens_have_shares_too(tokenizer: Any) -> None:
    found = fertility.count(fertility.kinds(tokenizer), [])
    assert fertility.shares(found)["byte_tokens"] == 0
