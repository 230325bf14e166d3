"""From a row of preference to two sequences of token ids, the same for training and for answers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from trainers.tasks import packing
from trainers.tasks.conversations.overlong import DROPPED, NOTHING_LEFT, piece
from trainers.tasks.conversations.renderer import Rendered, Renderer
from trainers.tasks.conversations.template import NotRendered
from trainers.tasks.prefer.spec import PairOverlong
from trainers.tasks.task import IGNORED, Batch

SAME = "chosen and rejected are the same tokens"

Sides = tuple[Mapping[str, Any], Mapping[str, Any]]
"""The chosen and the rejected sequence, each with `input_ids` and `learned`."""


class Pair(NamedTuple):
    chosen: Rendered
    rejected: Rendered
    is_cut: bool = False

    def columns(self) -> dict[str, list[Any]]:
        """The pair as one row: the chosen sequence, and behind it the rejected one."""
        return {
            "input_ids": self.chosen.input_ids + self.rejected.input_ids,
            "learned": self.chosen.learned + self.rejected.learned,
            "lengths": [len(self.chosen.input_ids), len(self.rejected.input_ids)],
        }


def sides(row: Mapping[str, Any]) -> Sides:
    """The two sequences of a row, as `Pair.columns` puts them one behind the other."""
    size = row["lengths"][0]
    chosen, rejected = (
        {name: row[name][part] for name in ("input_ids", "learned")}
        for part in (slice(size), slice(size, None))
    )
    return chosen, rejected


def render_pair(
    renderer: Renderer,
    row: Mapping[str, Any],
    max_length: int,
    overlong: PairOverlong,
) -> Pair:
    """The sequences of a row's `chosen` and `rejected`, cut alike. Raises NotRendered for a row of
    which nothing can be learned."""
    chosen, rejected = (
        renderer.render(row[side], row.get("tools") or None) for side in ("chosen", "rejected")
    )
    return fitted(Pair(chosen, rejected), max_length, overlong)


def fitted(pair: Pair, max_length: int, overlong: PairOverlong) -> Pair:
    """The pair with no more than `max_length` tokens on either side. `keep_end` cuts as many tokens
    from the beginning of both, so that both answers have the same prompt. Pure."""
    longest = max(len(side.input_ids) for side in pair[:2])
    if longest > max_length:
        if overlong == "drop":
            raise NotRendered(DROPPED)
        kept = slice(max_length) if overlong == "keep_start" else slice(longest - max_length, None)
        pair = Pair(piece(pair.chosen, kept), piece(pair.rejected, kept), is_cut=True)
        if not (any(pair.chosen.learned) and any(pair.rejected.learned)):
            raise NotRendered(NOTHING_LEFT)
    if pair.chosen.input_ids == pair.rejected.input_ids:
        raise NotRendered(SAME)
    return pair


def pair_batch(rows: Sequence[Mapping[str, Any]], is_packed: bool, pad_id: int) -> Batch:
    """The chosen sequences of all rows, and then the rejected ones, as a batch of
    `sequence_log_probabilities`."""
    chosen, rejected = zip(*map(sides, rows), strict=True)
    return sequence_batch([*chosen, *rejected], is_packed, pad_id)


def sequence_batch(sequences: Sequence[Mapping[str, Any]], is_packed: bool, pad_id: int) -> Batch:
    """Sequences with `input_ids` and `learned` as a batch of `sequence_log_probabilities`."""
    place = packing.packed if is_packed else packing.one_by_one
    placed = place([len(one["input_ids"]) for one in sequences])
    batch = packing.collated(sequences, placed, pad_id)
    most = max(map(len, placed))
    # By the number of a segment; padding, of which nothing is learned, is the first one's.
    owners = torch.tensor([[0, *places, *[0] * (most - len(places))] for places in placed])
    owner = owners.gather(1, batch["segments"])
    learned = (batch["labels"] != IGNORED).long()
    tokens = torch.zeros(len(sequences), dtype=torch.long)
    tokens.index_add_(0, owner.flatten(), learned.flatten())
    batch = batch if is_packed else packing.padded(batch)
    return {**batch, "sequences": owner, "tokens": tokens}
