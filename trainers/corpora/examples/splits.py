"""Which row of the examples trains, validates or tests. Pure: the same for the same rows, in
whatever order and files they were.

Rows that are linked by groups move as one set. Each set draws a number by the seed; in the order of
those numbers a split takes what brings it nearer to its share of every label. So the shares are
exact where rows have one label and no group, and near otherwise; and new rows move only those near
the edge of a split.

All rows are looked at in one process, without their texts: about 80 bytes each.
"""

import dataclasses
import itertools
import operator
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from trainers.corpora.config import Split
from trainers.corpora.steps.shard_assignment import draws

SPLITS = ("train", "validation", "test")
SHARES = "shares"
STRENGTH = ("train", SHARES, "validation", "test")
"""Where equal texts and groups go that stand in several places: held out wins over training."""
ELSEWHERE = len(SPLITS)
"""In place of a split's number: a row that must be elsewhere than its group is."""
TURNS_TOGETHER = 100_000

Numbers = npt.NDArray[np.int64]
Fates = npt.NDArray[np.int8]


@dataclasses.dataclass(frozen=True)
class Rows:
    """What the splits of rows follow from."""

    keys: npt.NDArray[np.uint64]
    """(rows,): of their texts, each once."""
    placements: npt.NDArray[np.int8]
    """(rows,): places in STRENGTH, of the split that a row must be in, or of `shares`."""
    sets: Numbers
    """(rows,): of rows that must be in one split, the place of one of them."""
    labels: npt.NDArray[np.int32]
    """Numbers of the labels of all rows, row after row."""
    ends: Numbers
    """(rows,): where each row's labels end in those."""

    def __len__(self) -> int:
        return len(self.keys)

    def of_labels(self) -> Numbers:
        """(labels,): the row that each has."""
        return np.repeat(np.arange(len(self)), np.diff(self.ends, prepend=0))


def split(rows: Rows, shares: Split, seed: int) -> Fates:
    """(rows,): the number of each row's split, or ELSEWHERE."""
    fates_of = np.array([SPLITS.index(name) if name in SPLITS else -1 for name in STRENGTH])
    in_shares = STRENGTH.index(SHARES)
    is_root = rows.sets == np.arange(len(rows))
    sets = (np.cumsum(is_root) - 1)[rows.sets]
    count = int(is_root.sum())
    strongest = np.zeros(count, np.int8)
    np.maximum.at(strongest, sets, rows.placements)
    fates = fates_of[strongest]
    is_drawn = strongest == in_shares
    taken = {STRENGTH[number] for number in np.unique(rows.placements).tolist()}
    wanted = {"test": shares.test, "validation": shares.validation}
    wanted = {name: 0.0 if name in taken else part for name, part in wanted.items()}
    fates[is_drawn] = _draw(rows, sets, is_drawn, wanted, seed)[is_drawn]
    placed = rows.placements == in_shares
    stays = np.where(placed, is_drawn[sets], fates_of[rows.placements] == fates[sets])
    return np.where(stays, fates[sets], ELSEWHERE).astype(np.int8)


def _draw(
    rows: Rows,
    sets: Numbers,
    is_drawn: npt.NDArray[np.bool_],
    wanted: Mapping[str, float],
    seed: int,
) -> Fates:
    """(sets,): the split of each that is drawn."""
    in_shares = STRENGTH.index(SHARES)
    counted = is_drawn[sets] & (rows.placements == in_shares)
    lowest = np.full(len(is_drawn), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, sets[counted], rows.keys[counted])
    order = np.lexsort((lowest, draws(lowest, seed, "split")))
    turns = np.empty(len(order), np.int64)
    turns[order] = np.arange(len(order))
    number = int(rows.labels.max(initial=-1)) + 1
    is_bare = np.diff(rows.ends, prepend=0) == 0
    totals = np.bincount(rows.labels[counted[rows.of_labels()]], minlength=number).tolist()
    totals.append(int((is_bare & counted).sum()))
    needs = {
        SPLITS.index(name): [part * total for total in totals] for name, part in wanted.items()
    }
    found = np.full(len(order), SPLITS.index("train"), np.int8)
    for first in range(0, len(order), TURNS_TOGETHER):
        for turn, labels in _by_turn(rows, turns[sets], counted, first):
            for name, need in needs.items():
                if _takes(need, labels, totals):
                    found[order[turn]] = name
                    for label, count in labels:
                        need[label] -= count
                    break
        if all(max(need) <= 0.5 and sum(need) <= 0 for need in needs.values()):
            break  # No set brings a split nearer to its shares any more.
    return found


def _by_turn(
    rows: Rows, turns: Numbers, counted: npt.NDArray[np.bool_], first: int
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """(turn, [(label, count), ...]) of some sets in order: how many rows of each label they have.
    Rows without a label count as of one of their own."""
    bare = int(rows.labels.max(initial=-1)) + 1
    owners, is_bare = rows.of_labels(), np.diff(rows.ends, prepend=0) == 0
    some = counted & (turns >= first) & (turns < first + TURNS_TOGETHER)
    kept = some[owners]
    turn = np.concatenate([turns[owners[kept]], turns[some & is_bare]])
    label = np.full(len(turn), bare)
    label[: kept.sum()] = rows.labels[kept]
    pairs, counts = np.unique(turn * (bare + 1) + label, return_counts=True)
    found = zip(*map(np.ndarray.tolist, (*np.divmod(pairs, bare + 1), counts)), strict=True)
    for turn_, of_set in itertools.groupby(found, key=operator.itemgetter(0)):
        yield turn_, [(label_, count) for _, label_, count in of_set]


def _takes(need: list[float], labels: list[tuple[int, int]], totals: list[float]) -> bool:
    """Whether rows bring a split nearer to its share of their labels. How far it is from them is
    the sum of need^2 / total over the labels; n rows add n (n - 2 need) / total."""
    added = sum(count * (count - 2 * need[label]) / totals[label] for label, count in labels)
    if added:
        return added < 0
    return sum(need) > 0  # no nearer, no further: what the split lacks in all decides


def repeats(
    rows: Rows, is_train: npt.NDArray[np.bool_], how: Literal["none", "downsample", "upsample"]
) -> Numbers:
    """(rows,): how often each stands in its split. Of the training split every label has as many as
    the rarest or the most frequent; the first of a label are those that stay, or stand once more.
    A row with several labels counts for the rarest of them."""
    found = np.ones(len(rows), np.int64)
    if how == "none" or not is_train.any():
        return found
    owners = rows.of_labels()
    kept = is_train[owners]
    totals = np.bincount(rows.labels[kept], minlength=1)
    rank = np.empty(len(totals), np.int64)
    rank[np.argsort(totals, kind="stable")] = np.arange(len(totals))
    rarest = np.full(len(rows), len(totals), np.int64)  # of a row without labels: a kind of its own
    np.minimum.at(rarest, owners[kept], rank[rows.labels[kept]])
    train = np.flatnonzero(is_train)
    order = train[np.argsort(rarest[train], kind="stable")]
    _, starts, sizes = np.unique(rarest[order], return_index=True, return_counts=True)
    wanted = sizes.min() if how == "downsample" else sizes.max()
    places = np.arange(len(order)) - np.repeat(starts, sizes)
    of_label = np.repeat(sizes, sizes)
    found[order] = wanted // of_label + (places < wanted % of_label)
    return found


def by_label(
    rows: Rows, fates: Fates, times: Numbers, names: list[str]
) -> dict[str, dict[str, int]]:
    """Rows of every label in each split, each as often as it stands there."""
    owners = rows.of_labels()
    counts = np.zeros((len(SPLITS) + 1, len(names)), np.int64)
    np.add.at(counts, (np.minimum(fates[owners], ELSEWHERE), rows.labels), times[owners])
    return {
        name: {split: int(counts[number, place]) for number, split in enumerate(SPLITS)}
        for place, name in enumerate(names)
        if counts[:ELSEWHERE, place].any()
    }


def rare_labels(by_label: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Warnings, for people, of labels that no training can learn or no figure can tell of.
    `by_label` has the documents of every label in each split."""
    unlearned = [label for label, counts in by_label.items() if not counts["train"]]
    lonely = [label for label, counts in by_label.items() if counts["train"] == 1]
    untested = [
        label for label, counts in by_label.items() if counts["train"] > counts["test"] == 0
    ]
    return [
        f"warning: {why}: " + ", ".join(_counted(label, by_label[label]) for label in labels)
        for why, labels in (
            ("labels without training documents, which a model cannot learn", unlearned),
            ("labels with one training document", lonely),
            ("labels without test documents, which test figures leave out", untested),
        )
        if labels
    ]


def _counted(label: str, counts: Mapping[str, int]) -> str:
    where = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    return f"{label!r} ({where})"
