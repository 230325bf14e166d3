import logging
import subprocess
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers

from cluster.errors import UserError
from tests.fakes import TEXTS
from trainers.corpora.config import Corpora, Tokenizer
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.corpora.tokens.tokenizer import (
    MAX_PIECE_CHARACTERS,
    SPECIAL_TOKENS,
    encode,
    load,
    train,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LOSSLESS = ("bpe", "unigram")
HARD = (
    "  def f(x):\n\n    return x  # 返回 \t",
    "BERT 用 [MASK] 和 [SEP]，<0x41> 不是 A，▁ 也不是空格。",
    "👩‍👩‍👧‍👦👍🏽❤️ 𠮷野家 龘 ㍿ ﬁ ＡＢＣ Ünïcödé e\u0301\u0300 ۳ ½ นี่ 한국어",
)


@pytest.fixture(params=[*LOSSLESS, "wordpiece"], scope="module")
def trained(request: pytest.FixtureRequest) -> "PreTrainedTokenizerFast":
    return train(TEXTS * 4, Tokenizer(algorithm=request.param, vocabulary_size=400), 64)


@pytest.fixture(params=LOSSLESS, scope="module")
def exact(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "PreTrainedTokenizerFast":
    """Saved and loaded, as a model's is."""
    of = Tokenizer(algorithm=request.param, vocabulary_size=400, lowercase=False)
    folder = tmp_path_factory.mktemp("exact")
    train(TEXTS * 4, of, 64).save_pretrained(folder)
    return load(folder)


def test_special_tokens_and_limits_are_set(trained: Any) -> None:
    assert len(trained) <= 400
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


@given(
    st.text(
        st.one_of(
            st.sampled_from(" \n\t。,a龘爱𠮷👍\u200d\ufe0f▁[]<>"),
            st.characters(exclude_categories=["Cs"]),
            st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF),
        )
    )
)
@example(HARD[0])
@example(HARD[1])
@example(HARD[2])
@settings(max_examples=60)
def test_decoding_gives_any_normalized_text_back(exact: Any, text: str) -> None:
    normalized = exact.backend_tokenizer.normalizer.normalize_str(text)
    (tokens,) = encode(exact.backend_tokenizer, [text])
    assert not set(tokens.tolist()) & set(exact.all_special_ids)
    assert exact.decode(tokens.tolist(), skip_special_tokens=True) == normalized


@pytest.mark.parametrize("text", ["Hello world, 今天天气很好。\n  The END", "A  B"])
def test_generated_text_is_read_as_it_was_written(exact: Any, text: str) -> None:
    """By way of Transformers alone, token by token as a server streams it too."""
    from tokenizers.decoders import DecodeStream

    ids = exact(text).input_ids
    assert exact.decode(ids, skip_special_tokens=True) == text
    stream = DecodeStream(skip_special_tokens=True)
    steps = [stream.step(exact.backend_tokenizer, token) for token in ids]
    assert "".join(step for step in steps if step) == text


def test_lowercase_and_normal_form_are_the_recipes() -> None:
    texts = ["Ａ，Ｂ"] * 5

    def decoded(unicode: str, **of: Any) -> str:
        made = train(texts, Tokenizer(vocabulary_size=300, **of), 64, unicode)
        return made.decode(encode(made.backend_tokenizer, texts[:1])[0].tolist())

    assert decoded("NFKC", lowercase=True) == "a,b"
    assert decoded("NFKC") == "A,B"
    assert decoded("NFC") == "Ａ，Ｂ"


def test_what_loses_nothing_keeps_case_by_default() -> None:
    """Answers of a model that is trained from scratch would be in small letters else."""
    kept = {name: Tokenizer(algorithm=name).lowercase for name in ("bpe", "unigram", "wordpiece")}
    assert kept == {"bpe": False, "unigram": False, "wordpiece": True}
    assert Tokenizer(lowercase=True).lowercase
    assert not Tokenizer(algorithm="wordpiece", lowercase=False).lowercase


def test_wordpiece_gives_words_back_and_marks_what_it_does_not_know() -> None:
    made = train(TEXTS * 4, Tokenizer(algorithm="wordpiece", vocabulary_size=400), 64)
    assert made.tokenize("酒店很好☃") == ["酒", "店", "很", "好", "[UNK]"]
    text = "Hello world, this is a test."
    assert made.decode(made(text).input_ids, skip_special_tokens=True) == text.lower()


def test_rare_characters_are_left_to_bytes_and_frequent_ones_are_not() -> None:
    rare = [chr(0x4E00 + number) for number in range(50)]
    made = train(["天气很好"] * 100_000 + rare, Tokenizer(vocabulary_size=400), 64)
    vocabulary = made.get_vocab()
    assert set("天气很好") <= set(vocabulary)
    assert not set(rare) & set(vocabulary)
    assert made.tokenize("丁") == ["<0xE4>", "<0xB8>", "<0x81>"]


@pytest.mark.parametrize("algorithm", LOSSLESS)
def test_more_characters_than_the_vocabulary_holds_do_not_swell_it(algorithm: Any) -> None:
    texts = [chr(0x4E00 + number) * (100 - number // 6) for number in range(600)]
    made = train(texts, Tokenizer(algorithm=algorithm, vocabulary_size=500), 64)
    assert len(made) <= 500
    assert {"一", "丁"} <= set(made.get_vocab())


def test_frequent_words_become_one_piece() -> None:
    texts = [f"{word}{filler}" for word in ("天气", "酒店") for filler in "很不也都还"] * 5
    made = train(texts, Tokenizer(vocabulary_size=300), max_length=64)
    assert {"天气", "酒店"} <= set(made.get_vocab())


def test_pieces_have_a_longest() -> None:
    made = train(["abcdefghijklmnopqrstuvwxyz"] * 9, Tokenizer(vocabulary_size=400), 64)
    assert 8 < max(map(len, made.get_vocab())) <= MAX_PIECE_CHARACTERS


def test_pieces_end_at_punctuation_digits_script_and_space() -> None:
    texts = ["好，好 a1b22 (a\n\n  a"] * 50
    made = train(texts, Tokenizer(vocabulary_size=400), 64)
    expected = ["好", ",", "好", " a", "1", "b", "2", "2", " (", "a", "\n\n ", " a"]
    assert made.tokenize(texts[0]) == expected


@pytest.mark.parametrize("algorithm", [*LOSSLESS, "wordpiece"])
def test_training_is_deterministic(algorithm: Any) -> None:
    of = Tokenizer(algorithm=algorithm, vocabulary_size=400)
    one, two = (train(TEXTS * 4, of, 64).backend_tokenizer.to_str() for _ in range(2))
    assert one == two


def test_texts_are_encoded_as_transformers_does(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizers, "CHUNK_CHARACTERS", 20)
    texts = [*TEXTS, "", *TEXTS]
    expected = tokenizer(texts, add_special_tokens=False).input_ids
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    found = encode(tokenizer.backend_tokenizer, texts)
    assert [tokens.tolist() for tokens in found] == expected
    assert {tokens.dtype for tokens in found} == {np.dtype(np.uint16)}
    assert encode(tokenizer.backend_tokenizer, []) == []


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_clean_texts_get_the_same_tokens_without_the_normal_form(
    tmp_path: Path, trained: Any, form: Literal["NFC", "NFKC"]
) -> None:
    trained.save_pretrained(tmp_path)
    texts = [unicodedata.normalize(form, text) for text in (*TEXTS, *HARD, "Ａ，Ｂ")]
    expected = encode(trained.backend_tokenizer, texts)
    found = encode(tokenizers.backend_in(tmp_path, form), texts)
    assert [one.tolist() for one in found] == [one.tolist() for one in expected]


LOWERCASED = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])


@pytest.mark.parametrize(
    ("normalizer", "form", "left"),
    [
        (LOWERCASED, "NFKC", ["Lowercase()"]),
        (LOWERCASED, "NFC", ["NFKC()", "Lowercase()"]),
        (normalizers.Sequence([normalizers.NFD(), normalizers.NFC()]), "NFC", ["NFD()", "NFC()"]),
        (normalizers.NFC(), "NFKC", []),
        (normalizers.Lowercase(), "NFKC", ["Lowercase()"]),
        (None, "NFKC", []),
    ],
)
def test_only_first_steps_that_texts_have_behind_them_go(
    tmp_path: Path, normalizer: Any, form: str, left: list[str]
) -> None:
    backend = Backend(models.WordLevel({"a": 0}, "a"))
    backend.normalizer = normalizer
    backend.save(str(tmp_path / "tokenizer.json"))
    assert list(map(str, tokenizers.backend_in(tmp_path, form).normalizer or ())) == left


def test_special_tokens_in_a_corpus_are_text_and_in_a_prompt_are_not(tokenizer: Any) -> None:
    (tokens,) = encode(tokenizer.backend_tokenizer, ["很好[SEP]很好"])
    assert tokenizer.sep_token_id not in tokens
    assert tokenizer.sep_token_id in tokenizer("很好[SEP]很好", add_special_tokens=False).input_ids


def test_a_saved_tokenizer_is_loaded_the_same(trained: Any, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert loaded.get_vocab() == trained.get_vocab()
    assert loaded([*TEXTS, *HARD]).input_ids == trained([*TEXTS, *HARD]).input_ids
    assert loaded.mask_token_id == trained.mask_token_id


def test_a_tokenizer_is_loaded_without_torch(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    program = (
        "import sys; from trainers.corpora.tokens.tokenizer import load; "
        f"load({str(tmp_path)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_trained_tokenizer_is_loaded_as_transformers_does(trained: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    trained.save_pretrained(tmp_path)
    loaded, expected = load(tmp_path), AutoTokenizer.from_pretrained(str(tmp_path))
    assert type(loaded) is type(expected)
    assert loaded.init_kwargs == expected.init_kwargs
    assert loaded([*TEXTS, *HARD]).input_ids == expected([*TEXTS, *HARD]).input_ids


def test_a_text_longer_than_the_model_reads_is_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    short = train(TEXTS, Tokenizer(algorithm="wordpiece", vocabulary_size=400), max_length=2)
    short.save_pretrained(tmp_path)
    short(TEXTS[0])
    assert "longer than the specified maximum" in caplog.text, "else load need not see to it"
    caplog.clear()
    load(tmp_path)(TEXTS[0])
    assert not caplog.records


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpora\.tokenizer\.base: no tokenizer in '.*empty'"):
        load(tmp_path / "empty")


def test_a_tokenizer_without_a_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SimpleNamespace(from_pretrained=lambda _: SimpleNamespace(is_fast=False))
    monkeypatch.setattr("transformers.AutoTokenizer", slow)
    with pytest.raises(UserError, match=r"corpora\.tokenizer\.base: 'slow' .* tokenizer\.json"):
        load("slow")


@pytest.mark.parametrize(("algorithm", "conflicting"), [("wordpiece", True), ("bpe", False)])
def test_a_causal_model_needs_spaces(algorithm: Any, conflicting: bool) -> None:
    of = {"sources": {"news": {"path": "news.txt"}}, "tokenizer": {"algorithm": algorithm}}
    pretrain = SimpleNamespace(objective="causal_lm", base=None)
    recipe: Any = SimpleNamespace(finetune=None, pretrain=pretrain)
    found = list(Corpora.model_validate(of).conflicts(recipe))
    assert [conflict.key for conflict in found] == ["corpora.tokenizer.algorithm"] * conflicting
