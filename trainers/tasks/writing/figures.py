"""Figures of tasks whose answers are texts, from records: `gold` and `prediction` are texts. Pure.

loss            of the tokens of the true answer that are learned, as in training: the mean over
                these
perplexity      exp(loss)
accuracy        the share of these tokens that the model holds for the most probable ones
rouge_l, chrf   how like an answer is to the true one, from 0 to 1 (likeness.py): means over
                records
exact_match     the share of answers that are the true one, but for white space
ended           the share of answers that the model ended by itself
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainers.tasks.tally import Tally
from trainers.tasks.writing.likeness import tokens

Records = Sequence[Mapping[str, Any]]
SUMMED = ("loss", "right", "targets", "rouge_l", "chrf", "exact_match")
"""Numbers of a record."""


def figures(records: Records) -> dict[str, Any]:
    """The metrics, how many answers end in which way, and of the answers beside the true ones how
    long they are and how varied."""
    texts = {"answers": "prediction", "true answers": "gold"}
    return {
        **tally(records).figures(),
        "finish_reasons": dict(Counter(record["finish_reason"] for record in records)),
        "per_text": {name: _variety([one[key] for one in records]) for name, key in texts.items()},
        "documents": len(records),
    }


def _variety(texts: Sequence[str]) -> dict[str, float]:
    """`distinct_n` is the share of runs of n words that are distinct, over all texts (Li et al.
    2016). It falls with the number of texts, so that only sets of as many compare."""
    words = [tokens(text) for text in texts]
    return {
        "words": sum(map(len, words)) / len(words),
        "characters": sum(map(len, texts)) / len(texts),
        "distinct_1": _distinct(words, 1),
        "distinct_2": _distinct(words, 2),
    }


def _distinct(texts: Sequence[Sequence[str]], length: int) -> float:
    runs = [
        tuple(text[begin : begin + length])
        for text in texts
        for begin in range(len(text) - length + 1)
    ]
    return len({*runs}) / max(1, len(runs))


def tally(records: Records) -> Tally:
    """A record is right if its answer is the true one; else it is the more wrong the less like the
    true one its answer is, by ROUGE-L."""
    columns = {name: np.array([one[name] for one in records], np.float64) for name in SUMMED}
    ended = np.array([one["finish_reason"] == "stop" for one in records], np.float64)
    counts = np.stack([*columns.values(), ended, np.ones(len(records))], axis=1)
    severity = np.where(columns["exact_match"] == 1, 0.0, 2 - columns["rouge_l"])
    return Tally(counts, _metrics, severity)


def _metrics(sums: Any) -> dict[str, Any]:
    """`sums` (..., counts)."""
    loss, right, targets, rouge_l, chrf, exact, ended, records = np.moveaxis(sums, -1, 0)
    targets = np.maximum(targets, 1)
    return {
        "loss": loss / targets,
        "perplexity": np.exp(loss / targets),
        "accuracy": right / targets,
        "rouge_l": rouge_l / records,
        "chrf": chrf / records,
        "exact_match": exact / records,
        "ended": ended / records,
    }
