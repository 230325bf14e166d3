"""How like an answer is to the true one, by the libraries that papers use. Pure.

ROUGE-L (Lin 2004) is of words in small letters, and of single characters in scripts that write no
spaces between words; rouge-score's own tokenizer drops all but ASCII. chrF (Popović 2015) is of
runs of 1 to 6 characters, without white space.
"""

import functools
from typing import Any

import regex

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
TOKEN = regex.compile(rf"[{UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{UNSPACED}]]+", regex.V1)


def tokens(text: str) -> list[str]:
    """The units that ROUGE-L and distinct-n compare. Of ASCII they are those of rouge-score's own
    tokenizer."""
    found: list[str] = TOKEN.findall(text.lower())
    return found


def likeness(gold: str, answer: str) -> dict[str, float]:
    """Each from 0 to 1: `rouge_l` is the F1 of the longest common subsequence, `chrf` the F2 of
    runs of characters, `exact_match` 1 where only white space differs, else 0."""
    return {
        "rouge_l": float(_rouge().score(gold, answer)["rougeL"].fmeasure),
        "chrf": float(_chrf().sentence_score(answer, [gold]).score) / 100,
        "exact_match": float(gold.split() == answer.split()),
    }


class _Tokens:
    """The tokenizer that RougeScorer calls."""

    tokenize = staticmethod(tokens)


@functools.cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk, which takes a moment

    return RougeScorer(["rougeL"], tokenizer=_Tokens)


@functools.cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
