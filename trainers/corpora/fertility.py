"""What a tokenizer makes of each source: tokens a character, and how many of them are unknown,
bytes, or single characters. High figures say that its vocabulary does not fit the source.

Counts of shards add up; `report` divides. Pure.
"""

import collections
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trainers.corpora.pack import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

KINDS = ("piece", "unknown", "byte", "character")
"""Of tokens: several characters, [UNK], a part of a character, one character."""
Kinds = npt.NDArray[np.uint8]
Measures = dict[str, collections.Counter[str]]
"""By measure, and in each by source: characters of text, tokens, and tokens of each kind."""


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


def count(
    of_token: Kinds, sources: Sequence[str], texts: Sequence[str], encoded: Sequence[Tokens]
) -> Measures:
    """Counts of documents: of each its source, its text, and its tokens without special ones."""
    found: Measures = {
        name: collections.Counter() for name in ("characters", "text_tokens", *KINDS)
    }
    for source, text, tokens in zip(sources, texts, encoded, strict=True):
        found["characters"][source] += len(text)
        found["text_tokens"][source] += len(tokens)
        by_kind = np.bincount(of_token[tokens], minlength=len(KINDS))
        for kind, number in zip(KINDS, by_kind.tolist(), strict=True):
            found[kind][source] += number
    return found


def report(counts: Mapping[str, collections.Counter[str]]) -> dict[str, Any]:
    """Shares by source, of counts that were added up."""
    characters, tokens = counts["characters"], counts["text_tokens"]

    def share(of: str, whole: collections.Counter[str]) -> dict[str, float]:
        return {source: counts[of][source] / max(whole[source], 1) for source in sorted(characters)}

    return {
        "characters_per_token": characters.total() / max(tokens.total(), 1),
        "tokens_per_character": share("text_tokens", characters),
        "unknown_tokens": share("unknown", tokens),
        "byte_tokens": share("byte", tokens),
        "single_character_tokens": share("character", tokens),
    }
