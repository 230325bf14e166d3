"""Shares that are exact, groups that never part, and nothing that depends on the order."""

import dataclasses
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from trainers.corpora.cleaning.documents import text_key
from trainers.corpora.config import Split
from trainers.corpora.examples import splits
from trainers.corpora.examples.splits import SPLITS, STRENGTH, Rows, rare_labels

SEED = 17


@dataclasses.dataclass(frozen=True)
class Example:
    key: int
    label: str
    placement: str
    groups: frozenset[str]


def example(
    text: str, label: str, placement: str = "shares", groups: Iterable[str] = ()
) -> Example:
    return Example(text_key(text), label, placement, frozenset(groups))


def rows_of(examples: Sequence[Example]) -> Rows:
    """With those in one set that are linked by groups, over any number of them."""
    sets = list(range(len(examples)))
    before: list[int] = []
    while sets != before:
        before = list(sets)
        lowest: dict[str, int] = {}
        for number, each in zip(sets, examples, strict=True):
            for group in each.groups:
                lowest[group] = min(number, lowest.get(group, number))
        for place, each in enumerate(examples):
            sets[place] = min([sets[place], *(lowest[group] for group in each.groups)])
    names = sorted({label for each in examples for label in each.label})
    labels = [[names.index(label) for label in each.label] for each in examples]
    return Rows(
        np.array([each.key for each in examples], np.uint64),
        np.array([STRENGTH.index(each.placement) for each in examples], np.int8),
        np.array(sets, np.int64),
        np.array([label for own in labels for label in own], np.int32),
        np.cumsum([len(own) for own in labels]),
    )


def split(examples: Sequence[Example], shares: Split, seed: int) -> list[str | None]:
    """Names of splits; each letter of a label is one."""
    fates = splits.split(rows_of(examples), shares, seed).tolist()
    return [None if fate == splits.ELSEWHERE else SPLITS[fate] for fate in fates]


def drawn_shares(drawn: random.Random) -> Split:
    validation, test = (drawn.choice([0.05, 0.1, 0.15, 0.2, 0.33]) for _ in range(2))
    return Split(validation=validation, test=test)


def grouped(drawn: random.Random, purity: float) -> list[Example]:
    """Groups of all sizes, most of their documents of one label; some documents in two groups."""
    examples: list[Example] = []
    for group in range(drawn.randrange(5, 80)):
        label = drawn.choice("aaabbc")
        for _ in range(drawn.randrange(1, drawn.choice([2, 10, 30]))):
            own = label if drawn.random() < purity else drawn.choice("aaabbc")
            examples.append(example(f"text {len(examples)}", own, groups=[f"group {group}"]))
    return examples


def off(examples: Sequence[Example], found: Sequence[str | None], shares: Split) -> float:
    """Documents by which a split is away from its share of a label, at most."""
    wanted = {"validation": shares.validation, "test": shares.test}
    wanted["train"] = 1 - sum(wanted.values())
    totals = Counter(each.label for each in examples)
    have = Counter(zip((each.label for each in examples), found, strict=True))
    return max(
        abs(have[label, name] - wanted[name] * total)
        for label, total in totals.items()
        for name in SPLITS
    )


@pytest.mark.parametrize("number", range(40))
def test_without_groups_shares_are_exact_to_a_document_of_every_label(number: int) -> None:
    drawn = random.Random(number)
    shares = drawn_shares(drawn)
    examples = [example(str(i), drawn.choice("aaabbc")) for i in range(drawn.randrange(5, 400))]
    assert off(examples, split(examples, shares, SEED), shares) <= 1 + 1e-9


@pytest.mark.parametrize("number", range(40))
def test_with_groups_of_one_label_shares_are_exact_to_a_group(number: int) -> None:
    drawn = random.Random(number)
    shares, examples = drawn_shares(drawn), grouped(drawn, purity=1)
    largest = max(Counter(min(each.groups) for each in examples).values())
    assert off(examples, split(examples, shares, SEED), shares) <= largest


@pytest.mark.parametrize("number", range(40))
def test_with_mixed_groups_shares_are_near(number: int) -> None:
    drawn = random.Random(number)
    shares, examples = drawn_shares(drawn), grouped(drawn, purity=0.7)
    largest = max(Counter(min(each.groups) for each in examples).values())
    assert off(examples, split(examples, shares, SEED), shares) <= 1.5 * largest


@pytest.mark.parametrize("number", range(20))
def test_no_group_is_in_two_splits(number: int) -> None:
    drawn = random.Random(number)
    examples = grouped(drawn, purity=0.7)
    for _ in range(10):  # documents that link two groups
        groups = drawn.sample([min(each.groups) for each in examples], 2)
        examples.append(example(f"link {len(examples)}", "a", groups=groups))
    for _ in range(10):  # and some that must be in one split
        group = min(drawn.choice(examples).groups)
        placement = drawn.choice(SPLITS)
        examples.append(example(f"fixed {len(examples)}", "b", placement, [group]))
    splits: dict[str, set[str | None]] = defaultdict(set)
    for each, name in zip(examples, split(examples, Split(), SEED), strict=True):
        assert each.placement in ("shares", name) or name is None
        for group in each.groups:
            splits[group] |= {name} - {None}
    assert all(len(names) <= 1 for names in splits.values())


@pytest.mark.parametrize("number", range(20))
def test_the_order_of_the_documents_is_nothing_to_the_split(number: int) -> None:
    drawn = random.Random(number)
    examples = grouped(drawn, purity=0.7)
    examples += [example(f"alone {i}", drawn.choice("ab")) for i in range(100)]

    def by_key(order: Sequence[Example]) -> Mapping[int, str | None]:
        found = split(order, Split(), SEED)
        return {each.key: name for each, name in zip(order, found, strict=True)}

    before = by_key(examples)
    assert by_key(drawn.sample(examples, len(examples))) == before
    other = split(examples, Split(), SEED + 1)
    assert other != list(before.values())


def test_new_documents_move_few_old_ones() -> None:
    """So a model is hardly ever tested on what one before it was trained on."""
    examples = [example(str(number), "ab"[number % 2]) for number in range(2100)]
    before = split(examples[:2000], Split(), SEED)
    after = split(examples, Split(), SEED)[:2000]
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    assert moved < 40, "of 2000, when a twentieth came on top"


def test_rare_labels_share_what_is_left_over() -> None:
    """Five documents of each label cannot be cut in tenths, but all fifty labels together can."""
    examples = [
        example(f"{label} {i}", chr(0x4E00 + label)) for label in range(50) for i in range(5)
    ]
    found = Counter(split(examples, Split(validation=0.1, test=0.1), SEED))
    assert found == {"train": 200, "validation": 25, "test": 25}


def test_an_official_split_is_that_source_alone() -> None:
    free = [example(f"free {number}", "ab"[number % 2]) for number in range(100)]
    test = [example(f"test {number}", "ab"[number % 2], "test") for number in range(10)]
    found = split([*free, *test], Split(validation=0.1, test=0.1), SEED)
    assert Counter(found[:100]) == {"train": 90, "validation": 10}
    assert set(found[100:]) == {"test"}


def test_what_shares_a_group_with_an_official_test_document_is_dropped() -> None:
    examples = [
        example("official", "a", "test", ["x"]),
        example("free", "a", groups=["x", "y"]),
        example("linked", "a", groups=["y"]),
        example("to train on", "a", "train", ["y"]),
        example("alone", "a"),
    ]
    assert split(examples, Split(), SEED) == ["test", None, None, None, "train"]


def test_weakly_labelled_documents_of_a_group_that_is_held_out_are_dropped() -> None:
    gold = [example(f"gold {number}", "a", groups=[str(number)]) for number in range(100)]
    weak = [example(f"weak {number}", "a", "train", [str(number)]) for number in range(100)]
    found = split([*gold, *weak], Split(validation=0.1, test=0.1), SEED)
    assert Counter(found[:100]) == {"train": 80, "validation": 10, "test": 10}
    expected = ["train" if name == "train" else None for name in found[:100]]
    assert found[100:] == expected


def repeated(labels: Sequence[str], how: Any) -> list[int]:
    rows = rows_of([example(str(number), label) for number, label in enumerate(labels)])
    return splits.repeats(rows, np.ones(len(labels), bool), how).tolist()


def test_labels_are_balanced_by_leaving_out_or_repeating() -> None:
    labels = list("aabaaba")  # five and two
    assert repeated(labels, "none") == [1] * 7
    assert repeated(labels, "downsample") == [1, 1, 1, 0, 0, 1, 0]
    assert repeated(labels, "upsample") == [1, 1, 3, 1, 1, 2, 1]


def test_a_row_with_several_labels_counts_for_the_rarest_in_balance() -> None:
    assert repeated(["ab", "a", "a", "a", "b", ""], "upsample") == [2, 1, 1, 1, 1, 3]


@pytest.mark.parametrize("number", range(20))
def test_of_several_labels_each_has_nearly_its_share(number: int) -> None:
    drawn = random.Random(number)
    labels = ["".join(drawn.sample("abcde", drawn.randrange(4))) for _ in range(500)]
    examples = [example(str(place), own) for place, own in enumerate(labels)]
    found = split(examples, Split(validation=0.1, test=0.2), SEED)
    for label in "abcde":
        have = Counter(name for own, name in zip(labels, found, strict=True) if label in own)
        assert abs(have["test"] - 0.2 * have.total()) <= 9
        assert abs(have["validation"] - 0.1 * have.total()) <= 9
    bare = Counter(name for own, name in zip(labels, found, strict=True) if not own)
    assert abs(bare["test"] - 0.2 * bare.total()) <= 9, "rows without any are a kind of their own"


def test_labels_that_cannot_be_learned_or_measured_are_told() -> None:
    """ludwig-ai/ludwig#2831"""

    def counts(train: int, validation: int, test: int) -> dict[str, int]:
        return {"train": train, "validation": validation, "test": test}

    fine = counts(1000, 100, 100)
    assert rare_labels({"a": fine, "b": fine}) == []
    by_label = {"a": fine, "b": counts(0, 0, 1200), "c": counts(1, 3, 0), "d": counts(0, 3, 2)}
    assert rare_labels(by_label) == [
        "warning: labels without training documents, which a model cannot learn: "
        "'b' (test 1,200), 'd' (validation 3, test 2)",
        "warning: labels with one training document: 'c' (train 1, validation 3)",
        "warning: labels without test documents, which test figures leave out: "
        "'c' (train 1, validation 3)",
    ]
