"""Words in rows of token ids, by every tokenizer's own convention."""

import itertools
import pickle
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.fakes import TEXTS
from trainers.corpora.config import Tokenizer
from trainers.corpora.tokens.tokenizer import train
from trainers.tasks.pretraining.words import Words, piece_texts, word_starts

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def wordpiece(*pieces: str) -> PreTrainedTokenizerFast:
    vocabulary = {piece: number for number, piece in enumerate((*SPECIAL, *pieces))}
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    return special(backend)


def bpe(decoder: Any, *pieces: str) -> PreTrainedTokenizerFast:
    vocabulary = {piece: number for number, piece in enumerate((*SPECIAL, *pieces))}
    backend = Backend(models.BPE(vocabulary, []))
    backend.decoder = decoder
    return special(backend)


def special(backend: Backend) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def grouped(tokenizer: PreTrainedTokenizerFast, pieces: list[str]) -> list[list[str]]:
    ids: Any = tokenizer.convert_tokens_to_ids(pieces)
    numbers = Words(tokenizer).numbers(np.array(ids)).tolist()
    return [
        [piece for piece, number in zip(pieces, numbers, strict=True) if number == word]
        for word in range(numbers[-1] + 1)
    ]


def test_words_of_a_text() -> None:
    text = "今天我们去公园 a fox's  2026年\ncafé，好"
    starts = [*word_starts(text), len(text)]
    words = [text[a:b] for a, b in itertools.pairwise(starts)]
    assert words == [
        "今天", "我们", "去", "公园", " a", " fox", "'", "s", "  ", "2026", "年", "\n",
        "café", "，", "好",
    ]  # fmt: skip


def test_berts_pieces() -> None:
    """`##` goes on; Chinese characters, each by itself, are joined by the segmenter."""
    tokenizer = wordpiece("play", "##ing", "酒", "店", "很", "好", ",", "19", "##99")
    pieces = ["[CLS]", "play", "##ing", "play", "酒", "店", "很", "好", ",", "19", "##99", "[SEP]"]
    assert grouped(tokenizer, [*pieces, "[CLS]", "店", "[MASK]", "[SEP]", "[PAD]"]) == [
        ["[CLS]"], ["play", "##ing"], ["play"], ["酒", "店"], ["很"], ["好"], [","],
        ["19", "##99"], ["[SEP]"], ["[CLS]"], ["店"], ["[MASK]"], ["[SEP]"], ["[PAD]"],
    ]  # fmt: skip


def test_no_word_reaches_into_another_document() -> None:
    tokenizer = wordpiece("酒", "店")
    assert grouped(tokenizer, ["[CLS]", "酒", "[SEP]", "[CLS]", "店", "[SEP]"]) == [
        ["[CLS]"], ["酒"], ["[SEP]"], ["[CLS]"], ["店"], ["[SEP]"]
    ]  # fmt: skip


def test_sentencepieces() -> None:
    """`▁` begins a word; bytes of one character stay together."""
    decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    tokenizer = bpe(decoder, "▁fox", "es", "▁a", "<0xE9>", "<0xBE>", "<0x98>")
    pieces = ["▁a", "▁fox", "es", "<0xE9>", "<0xBE>", "<0x98>", "<0xE9>", "<0xBE>", "<0x98>"]
    assert grouped(tokenizer, pieces) == [["▁a"], ["▁fox", "es"], pieces[3:6], pieces[6:]]


def test_byte_level_pieces() -> None:
    encoded = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("好")[0][0]
    assert len(encoded) == 3
    tokenizer = bpe(decoders.ByteLevel(), "Ġfox", "es", *encoded, encoded)
    assert piece_texts(tokenizer)[5:7] == [" fox", "es"]
    assert piece_texts(tokenizer)[-1] == "好"
    assert grouped(tokenizer, ["Ġfox", "es", *encoded, encoded]) == [
        ["Ġfox", "es"], [*encoded], [encoded]
    ]  # fmt: skip


@pytest.mark.parametrize("algorithm", ["bpe", "unigram", "wordpiece"])
def test_our_own_pieces_never_part_a_word(algorithm: str) -> None:
    settings = Tokenizer.model_validate({"algorithm": algorithm, "vocabulary_size": 400})
    tokenizer = train(TEXTS * 4, settings, max_length=64)
    for text in TEXTS:
        ids = np.array(tokenizer.encode(text, add_special_tokens=False))
        words = Words(tokenizer)
        numbers = words.numbers(ids)
        texts = piece_texts(tokenizer)
        joined = "".join(texts[token] for token in ids)
        if algorithm != "wordpiece":
            assert joined == text.replace("，", ",")
        ends = np.cumsum([len(texts[token]) for token in ids])
        starts = set(word_starts(joined))
        for place in np.flatnonzero(np.diff(numbers)):
            assert int(ends[place]) in starts
        assert numbers[-1] > 1


def test_words_go_to_other_processes(tokenizer: Any) -> None:
    words = Words(tokenizer)
    ids = np.array(tokenizer.encode(TEXTS[0]))
    assert (pickle.loads(pickle.dumps(words)).numbers(ids) == words.numbers(ids)).all()
