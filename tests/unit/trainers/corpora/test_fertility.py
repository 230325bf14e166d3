import collections
from typing import Any

import numpy as np
import pytest

from tests.fakes import TEXTS
from trainers.corpora import fertility
from trainers.corpora.config import Tokenizer
from trainers.corpora.fertility import KINDS
from trainers.corpora.tokenizer import encode, train


def kind_of(tokenizer: Any, *tokens: str) -> list[str]:
    of_token = fertility.kinds(tokenizer)
    return [KINDS[of_token[tokenizer.convert_tokens_to_ids(token)]] for token in tokens]


def test_tokens_have_kinds(tokenizer: Any) -> None:
    found = kind_of(tokenizer, "[UNK]", "<0xE4>", "好", ",", "the", "[SEP]")
    assert found == ["unknown", "byte", "character", "character", "piece", "piece"]


def test_a_continued_character_is_one_character() -> None:
    made = train(TEXTS * 4, Tokenizer(algorithm="wordpiece", vocabulary_size=400), 64)
    assert kind_of(made, "##e", "hello") == ["character", "piece"]


def test_counts_add_up_and_shares_are_by_source(tokenizer: Any) -> None:
    of_token = fertility.kinds(tokenizer)
    texts = [*TEXTS, "the 龘", "好"]
    sources = ["news"] * len(TEXTS) + ["web", "web"]
    encoded = encode(tokenizer, texts)
    whole = fertility.count(of_token, sources, texts, encoded)
    halves = [
        fertility.count(of_token, sources[part], texts[part], encoded[part])
        for part in (slice(3), slice(3, None))
    ]
    assert {name: halves[0][name] + halves[1][name] for name in whole} == {
        name: +counter for name, counter in whole.items()
    }
    report = fertility.report(whole)
    # the | space | three bytes; and 好
    assert report["tokens_per_character"]["web"] == pytest.approx(6 / 6)
    assert report["byte_tokens"] == {"news": 0, "web": pytest.approx(3 / 6)}
    assert report["single_character_tokens"]["web"] == pytest.approx(2 / 6)
    assert report["unknown_tokens"] == {"news": 0, "web": 0}
    tokens = sum(map(len, encoded))
    assert report["characters_per_token"] == pytest.approx(sum(map(len, texts)) / tokens)


def test_unknown_tokens_are_counted() -> None:
    made = train(TEXTS * 4, Tokenizer(algorithm="wordpiece", vocabulary_size=400), 64)
    texts = ["好龘好"]
    found = fertility.count(fertility.kinds(made), ["web"], texts, encode(made, texts))
    assert found["unknown"] == collections.Counter(web=1)
    assert fertility.report(found)["unknown_tokens"] == {"web": pytest.approx(1 / 3)}


def test_a_source_without_text_has_shares_too(tokenizer: Any) -> None:
    empty = [np.array([], dtype=np.uint16)]
    found = fertility.count(fertility.kinds(tokenizer), ["web"], [""], empty)
    assert fertility.report(found)["byte_tokens"] == {"web": 0}
