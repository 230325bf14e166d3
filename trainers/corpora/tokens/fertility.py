"""What a tokenizer makes of a source: how many tokens are unknown, bytes, or single characters.
High shares say that its vocabulary does not fit the source. Counts of shards add up; `shares`
divides. Pure.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trainers.corpora.tokens.pack import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

KINDS = ("piece", "unknown", "byte", "character")
"""Of tokens: several characters, [UNK], a part of a character, one character."""
Kinds = npt.NDArray[np.uint8]


def kinds(tokenizer: "PreTrainedTokenizerFast") -> Kinds:
    """Of every token, the place of its kind in KINDS."""
    backend = tokenizer.backend_tokenizer
    prefix = getattr(backend.model, "continuing_subword_prefix", None) or ""
    alone = backend.decode_batch([[token] for token in range(len(tokenizer))], False)
    found = np.array([_kind(text.removeprefix(prefix)) for text in alone], dtype=np.uint8)
    if tokenizer.unk_token_id is not None:
        found[tokenizer.unk_token_id] = KINDS.index("unknown")
    return found


def _kind(text: str) -> int:
    if "\ufffd" in text:  # bytes that are no text by themselves
        return KINDS.index("byte")
    return KINDS.index("character" if len(text.strip()) <= 1 else "piece")


def count(of_token: Kinds, encoded: Sequence[Tokens]) -> collections.Counter[str]:
    """The tokens of documents by kind, given without special ones."""
    together = np.concatenate([np.empty(0, np.uint32), *encoded]).astype(np.intp)
    by_kind = np.bincount(of_token[together], minlength=len(KINDS))
    return collections.Counter(dict(zip(KINDS, by_kind.tolist(), strict=True)))


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Of counts that were added up: the shares of all tokens that tell of a poor fit."""
    tokens = max(1, sum(counts[kind] for kind in KINDS))
    return {
        "unknown_tokens": counts["unknown"] / tokens,
        "byte_tokens": counts["byte"] / tokens,
        "single_character_tokens": counts["character"] / tokens,
    }
