from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cluster.errors import UserError
from tests.fakes import TEXTS
from trainers.corpora.config import Tokenizer
from trainers.corpora.tokenizer import MAX_PIECE_CHARACTERS, SPECIAL_TOKENS, load, train

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@pytest.fixture(params=["bpe", "unigram", "wordpiece", "characters"])
def trained(request: pytest.FixtureRequest) -> "PreTrainedTokenizerFast":
    settings = Tokenizer(algorithm=request.param, vocabulary_size=160)
    return train(TEXTS * 4, settings, max_length=64)


def test_special_tokens_and_limits_are_set(trained: Any) -> None:
    assert len(trained) <= 160
    names = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
    found = {name: getattr(trained, f"{name}_token") for name in names}
    pad, unknown, begin, end, mask = SPECIAL_TOKENS
    assert list(found.values()) == [pad, unknown, begin, end, mask, begin, end]
    assert sorted(trained.all_special_ids) == list(range(5))
    assert trained.model_max_length == 64


def test_a_text_and_a_pair_are_written_by_the_template(trained: Any) -> None:
    one, two = trained("很好", add_special_tokens=False).input_ids, trained("test").input_ids
    begin, end = trained.cls_token_id, trained.sep_token_id
    assert trained("很好").input_ids == [begin, *one, end]
    assert trained("很好", "test").input_ids == [begin, *one, end, *two[1:]]


@pytest.mark.parametrize("text", TEXTS)
def test_what_was_seen_is_decoded_but_for_spaces_and_case(trained: Any, text: str) -> None:
    decoded = trained.decode(trained(text).input_ids, skip_special_tokens=True)
    expected = text.lower().replace("，", ",")
    assert decoded.replace(" ", "") == expected.replace(" ", "")


def test_what_was_never_seen_is_unknown_and_nothing_else(trained: Any) -> None:
    ids = trained("很好☃", add_special_tokens=False).input_ids
    assert ids[-1] == trained.unk_token_id
    assert ids[:-1] == trained("很好", add_special_tokens=False).input_ids


def test_frequent_words_become_one_piece() -> None:
    texts = [f"{word}{filler}" for word in ("天气", "酒店") for filler in "很不也都还"] * 5
    trained = train(texts, Tokenizer(vocabulary_size=64), max_length=64)
    assert {"天气", "酒店"} <= set(trained.get_vocab())
    assert max(map(len, trained.get_vocab())) <= MAX_PIECE_CHARACTERS


def test_characters_stay_by_themselves() -> None:
    trained = train(TEXTS * 4, Tokenizer(algorithm="characters", vocabulary_size=160), 64)
    assert trained.tokenize("酒店很好") == ["酒", "店", "很", "好"]


def test_pieces_end_at_punctuation_digits_and_script() -> None:
    trained = train(["好，好"] * 50 + ["a1b22"] * 50, Tokenizer(vocabulary_size=64), 64)
    assert trained.tokenize("好，好a1b22") == ["好", ",", "好", "a", "1", "b", "2", "2"]


def test_training_is_deterministic() -> None:
    one, two = (train(TEXTS * 4, Tokenizer(vocabulary_size=100), 64) for _ in range(2))
    assert one.get_vocab() == two.get_vocab()


def test_a_saved_tokenizer_is_loaded_the_same(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded(list(TEXTS)).input_ids == tokenizer(list(TEXTS)).input_ids
    assert loaded.mask_token_id == tokenizer.mask_token_id


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpora\.tokenizer\.base: no tokenizer in '.*empty'"):
        load(tmp_path / "empty")
