"""Rows of fine-tuning as the sequences of a micro-batch: several rows packed into each, which do
not see each other (models/build.py: packed_inputs), or each row in a sequence of its own.

The loss is summed over targets and divided by those of the global batch, which counts rows: so a
row has the same part in the gradient, whatever it is packed with. Documents of pretraining are
packed before, once, when the corpus is made (corpora/tokens/pack.py). Pure.
"""

import heapq
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainers.models.build import packed_inputs
from trainers.tasks.task import IGNORED, Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_PADDING = 0.05
"""Of the tokens of a packed micro-batch, less than this is padding."""

Sequences = list[list[int]]
"""The rows in each sequence of a micro-batch, by their places in it."""


def one_by_one(lengths: Sequence[int]) -> Sequences:
    """Every row in a sequence of its own."""
    return [[place] for place in range(len(lengths))]


def packed(lengths: Sequence[int]) -> Sequences:
    """Rows of these lengths in as many sequences as leave less than MOST_PADDING. The more there
    are, the shorter they are, and attention takes the square of their length."""
    total, longest = sum(lengths), max(lengths)
    limit = total / (1 - MOST_PADDING)  # tokens with padding must be fewer
    for count in range(min(len(lengths), int(limit / longest)), 1, -1):
        sequences = _evened(lengths, count)
        width = max(sum(lengths[place] for place in places) for places in sequences)
        if count * width < limit:
            return sequences
    return _evened(lengths, 1)


def _evened(lengths: Sequence[int], count: int) -> Sequences:
    """Rows in `count` sequences of about the same length: from the longest row to the shortest,
    each goes to the sequence that is shortest so far (Graham 1969)."""
    sequences: Sequences = [[] for _ in range(count)]
    shortest = [(0, number) for number in range(count)]
    for place in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        length, number = shortest[0]
        sequences[number].append(place)
        heapq.heapreplace(shortest, (length + lengths[place], number))
    return sequences


def collated(rows: Sequence[Mapping[str, Any]], sequences: Sequences, pad_id: int) -> Batch:
    """`input_ids`, `segments` and `labels`, each (sequences, length).

    A row has `input_ids` and `learned`, which says of each token whether it is to be predicted.
    Segments number the rows of a sequence from 1; padding is 0. The label of a token is the next
    token of its row, or IGNORED.
    """
    width = max(sum(len(rows[place]["input_ids"]) for place in places) for places in sequences)
    ids = np.full((len(sequences), width), pad_id, dtype=np.int64)
    segments, labels = np.zeros_like(ids), np.full_like(ids, IGNORED)
    for sequence, places in enumerate(sequences):
        end = 0
        for number, place in enumerate(places, start=1):
            row = np.asarray(rows[place]["input_ids"])
            start, end = end, end + len(row)
            ids[sequence, start:end], segments[sequence, start:end] = row, number
            learned = np.asarray(rows[place]["learned"], dtype=bool)[1:]
            labels[sequence, start : end - 1][learned] = row[1:][learned]
    arrays = {"input_ids": ids, "segments": segments, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def padded(batch: Batch) -> Batch:
    """A batch whose sequences have one row each, as any model reads it: with an `attention_mask` in
    place of `segments`."""
    others = {name: value for name, value in batch.items() if name != "segments"}
    return {**others, "attention_mask": batch["segments"]}


def model_inputs(model: "PreTrainedModel", batch: Batch) -> dict[str, Any]:
    """The arguments of a model's forward, from a batch that is packed or padded."""
    if "segments" in batch:
        return packed_inputs(model, batch["input_ids"], batch["segments"])
    return {name: batch[name] for name in ("input_ids", "attention_mask")}
