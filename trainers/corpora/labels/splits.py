"""Which labelled document trains, validates or tests. Pure: the same for the same documents in
whatever order and files.

Documents that are linked by groups move as one. Each such set draws a number by the seed; in the
order of those numbers a split takes what brings it nearer to its share of every label. So the
shares are exact where there are no groups, and new documents move only those near the edge of a
split.
"""

import collections
import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from trainers.corpora.cleaning.documents import share
from trainers.corpora.config import Split

SPLITS = ("train", "validation", "test")
SHARES = "shares"
STRENGTH = ("train", SHARES, "validation", "test")
"""Where equal texts and groups go that stand in several places: held out wins over training."""


@dataclasses.dataclass(frozen=True)
class Example:
    """A labelled document, whose text stands in no other."""

    key: int
    """Of its text."""
    text: str
    label: str
    where: str
    """`file:line`, for errors."""
    placement: str = SHARES
    """The split it must be in, or `shares`."""
    groups: frozenset[str] = frozenset()


def stronger(first: str, second: str) -> str:
    return max(first, second, key=STRENGTH.index)


def split(
    examples: Sequence[Example], shares: Split, seed: int, alike: Iterable[Sequence[int]] = ()
) -> list[str | None]:
    """The split of each document; None for one that must be elsewhere than its group is. Pairs of
    documents that are `alike`, given by their places, are in one group too."""
    groups: list[set[Hashable]] = [{*example.groups} for example in examples]
    for pair, places_of_pair in enumerate(alike):
        for place in places_of_pair:
            groups[place].add(pair)
    sets = linked(groups)
    places: dict[int, str] = {}
    for number, example in zip(sets, examples, strict=True):
        places[number] = stronger(places.get(number, example.placement), example.placement)
    drawn: dict[int, list[Example]] = collections.defaultdict(list)
    for number, example in zip(sets, examples, strict=True):
        if places[number] == example.placement == SHARES:
            drawn[number].append(example)
    taken = {example.placement for example in examples}  # such as by an official test file
    wanted = {"test": shares.test, "validation": shares.validation}
    places |= _draw(drawn, {name: 0.0 if name in taken else wanted[name] for name in wanted}, seed)
    return [
        places[number]
        if example.placement == places[number] or (example.placement == SHARES and number in drawn)
        else None
        for number, example in zip(sets, examples, strict=True)
    ]


def linked(groups: Sequence[Iterable[Hashable]]) -> list[int]:
    """The set that each document belongs to: of those that share a group with it, or with one that
    does, and so on."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    numbers: dict[Hashable, int] = {}
    pairs = [
        (place, len(groups) + numbers.setdefault(group, len(numbers)))
        for place, of_one in enumerate(groups)
        for group in of_one
    ]
    if not pairs:
        return list(range(len(groups)))
    ends = np.array(pairs).T
    size = len(groups) + len(numbers)
    graph = coo_matrix((np.ones(len(pairs), bool), (ends[0], ends[1])), (size, size))
    _, found = connected_components(graph, directed=False)
    return found[: len(groups)].tolist()


def _draw(
    sets: Mapping[int, Sequence[Example]], wanted: Mapping[str, float], seed: int
) -> dict[int, str]:
    """A split for each set."""
    totals = collections.Counter(example.label for members in sets.values() for example in members)
    needs = {
        name: {label: part * total for label, total in totals.items()}
        for name, part in wanted.items()
    }
    found = {}
    for number in sorted(sets, key=lambda number: _turn(sets[number], seed)):
        labels = collections.Counter(example.label for example in sets[number])
        found[number] = "train"
        for name, need in needs.items():
            if _takes(need, labels, totals):
                found[number] = name
                for label, count in labels.items():
                    need[label] -= count
                break
    return found


def _turn(examples: Sequence[Example], seed: int) -> tuple[float, int]:
    lowest = min(example.key for example in examples)
    return share(lowest, seed, "split"), lowest


def _takes(need: Mapping[str, float], labels: Mapping[str, int], totals: Mapping[str, int]) -> bool:
    """Whether documents bring a split nearer to its share of their labels. How far it is from them
    is the sum of need^2 / total over the labels; n documents add n (n - 2 need) / total."""
    added = sum(
        count * (count - 2 * need[label]) / totals[label] for label, count in sorted(labels.items())
    )
    if added:
        return added < 0
    return sum(need.values()) > 0  # no nearer, no further: what the split lacks in all decides


def balanced(labels: Sequence[str], how: Literal["downsample", "upsample"]) -> list[int]:
    """The places of the documents to train on, in order, so that every label has as many as the
    rarest or the most frequent. The first of a label are those that stay, or stand once more."""
    places: dict[str, list[int]] = collections.defaultdict(list)
    for place, label in enumerate(labels):
        places[label].append(place)
    sizes = [len(of_label) for of_label in places.values()]
    size = min(sizes) if how == "downsample" else max(sizes)
    return sorted(
        place
        for of_label in places.values()
        for place in itertools.islice(itertools.cycle(of_label), size)
    )


def rare_labels(by_label: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Warnings, for people, of labels that no training can learn or no figure can tell of.
    `by_label` has the documents of every label in each split."""
    unlearned = [label for label, counts in by_label.items() if not counts["train"]]
    lonely = [label for label, counts in by_label.items() if counts["train"] == 1]
    unmeasured = [
        label
        for label, counts in by_label.items()
        if counts["train"] and not counts["validation"] + counts["test"]
    ]
    return [
        f"warning: {why}: " + ", ".join(_counted(label, by_label[label]) for label in labels)
        for why, labels in (
            ("labels without training documents, which a model cannot learn", unlearned),
            ("labels with one training document", lonely),
            ("labels in neither validation nor test, of which no figure tells", unmeasured),
        )
        if labels
    ]


def _counted(label: str, counts: Mapping[str, int]) -> str:
    where = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    return f"{label!r} ({where})"
