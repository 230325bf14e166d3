"""Which tokens of a packed sequence make up a word, for masking whole words.

A sequence holds no text, but the names of its tokens do: joined they are the text again, up to
spaces where the tokenizer drops them. In it a word is a run of letters and digits with the space
before it, or what jieba finds in a run of Chinese characters (as Cui et al. 2021 mask them, with
another segmenter). Scripts that write no spaces otherwise, such as Thai, have a run as one word.

A token that begins inside a word goes with the token before it. So tokens that span several words
stay whole, and no word is ever masked in part.
"""

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import regex

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WORD = regex.compile(
    r"(?V1)(?P<han>\p{Han}+)| ?[[\p{L}\p{M}\p{N}]--\p{Han}]+| ?[^\s\p{L}\p{M}\p{N}]\p{M}*|\s+"
)
"""Every character of a text belongs to one."""
APART = "\0"
"""Stands for a special token: no word reaches over it."""
GOES_ON = "\u0301"
"""Stands for a byte inside a character: a combining mark, which goes with what is before it."""
BYTE = re.compile("<0x([0-9A-F]{2})>")


class Words:
    """The words in rows of a tokenizer's tokens. Picklable."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast"):
        self._texts = piece_texts(tokenizer)
        self._lengths = np.array([len(text) for text in self._texts])

    def numbers(self, ids: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.intp]:
        """The words of a row's tokens, numbered from 0; tokens of one word stand together."""
        text = "".join([self._texts[token] for token in ids.tolist()])
        begins = np.zeros(len(text) + 1, dtype=bool)
        begins[word_starts(text)] = True
        lengths = self._lengths[ids]
        of_token = begins[np.cumsum(lengths) - lengths]
        of_token[0] = True
        return np.cumsum(of_token) - 1


def word_starts(text: str) -> list[int]:
    """Where the words of a text begin."""
    import rjieba

    starts = []
    for match in WORD.finditer(text):
        at = match.start()
        if match["han"] is None:
            starts.append(at)
            continue
        for word in rjieba.cut(match[0]):
            starts.append(at)
            at += len(word)
    return starts


def piece_texts(tokenizer: "PreTrainedTokenizerFast") -> list[str]:
    """What each token adds to a text, by the tokenizer's own convention."""
    saved = json.loads(tokenizer.backend_tokenizer.to_str())
    decoder = json.dumps(saved["decoder"], ensure_ascii=False)
    pieces: Any = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    if "ByteLevel" in decoder:
        character_bytes = _byte_alphabet()
        texts = [_from_bytes(bytes(map(character_bytes.__getitem__, piece)))
                 if all(character in character_bytes for character in piece) else piece
                 for piece in pieces]  # fmt: skip
    elif saved["model"]["type"] == "WordPiece":
        prefix = saved["model"]["continuing_subword_prefix"]
        texts = [_from_wordpiece(piece, prefix) for piece in pieces]
    else:
        space = "▁" if "▁" in decoder else " "
        texts = [
            _from_bytes(bytes([int(byte[1], 16)]))
            if (byte := BYTE.fullmatch(piece))
            else piece.replace(space, " ")
            for piece in pieces
        ]
    for special in tokenizer.all_special_ids:
        texts[special] = APART
    return texts


def _from_wordpiece(piece: str, prefix: str) -> str:
    """A piece without the prefix begins a word, but Chinese characters stand by themselves."""
    if piece.startswith(prefix) and piece != prefix:
        return piece.removeprefix(prefix)
    return piece if regex.match(r"\p{Han}", piece) else f" {piece}"


def _from_bytes(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return GOES_ON + text[1:] if data[:1] and 0x80 <= data[0] < 0xC0 else text


def _byte_alphabet() -> dict[str, int]:
    """The byte behind each character that byte-level tokenizers write (Radford et al. 2019): its
    own where it prints, else the next from 256 on."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    alphabet = {chr(byte): byte for byte in printed}
    return alphabet | {chr(256 + place): byte for place, byte in enumerate(others)}
