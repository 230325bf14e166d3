"""What stands beside a model, as a sanity line: a list of known entities. Imports no torch."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cluster.store.artifacts import Artifact
from trainers.corpora.cleaning.units import IS_CJK
from trainers.corpora.examples.stage import read_split
from trainers.tasks.ner.figures import keys
from trainers.tasks.ner.spec import Ner

MOST_ROWS = 200_000
"""Of each split."""
END = "end"
"""A key of the trie, beside those of single characters: a string may end here."""
Trie = dict[str, Any]


def gazetteer(settings: Ner, examples: Artifact) -> list[dict[str, Any]]:
    """Records by looking up the entities of the training split: from left to right the longest
    match, with the label that it mostly has. Strings that are no entity in half of the places where
    the training split has them are left out."""
    train, test = (_rows(examples, split) for split in ("train", "test"))
    labels = _labels([(text, entities) for _, text, entities in train])
    known = trie(labels)
    return [
        {
            "id": id_,
            "gold": entities,
            "prediction": [
                {"start": start, "end": end, "label": labels[text[start:end]]}
                for start, end in matches(known, text)
            ],
        }
        for id_, text, entities in test
    ]


Entities = Sequence[Mapping[str, Any]]


def _rows(examples: Artifact, split: str) -> list[tuple[str, str, Entities]]:
    columns = read_split(examples, split, MOST_ROWS)
    return [*zip(columns["id"], columns["text"], columns["entities"], strict=True)]


def _labels(rows: Sequence[tuple[str, Entities]]) -> dict[str, str]:
    """The label of each string that is an entity in half of its places or more."""
    labels: dict[str, collections.Counter[str]] = {}
    for text, entities in rows:
        for start, end, label in keys(entities):
            labels.setdefault(text[start:end], collections.Counter())[label] += 1
    every = trie(labels)
    places = collections.Counter(
        text[start:end] for text, _ in rows for start, end in matches(every, text)
    )
    return {
        string: max(sorted(counts), key=counts.__getitem__)
        for string, counts in labels.items()
        if 2 * counts.total() >= places[string]
    }


def trie(strings: Mapping[str, Any]) -> Trie:
    root: Trie = {}
    for string in strings:
        node = root
        for character in string:
            node = node.setdefault(character, {})
        node[END] = True
    return root


def matches(known: Trie, text: str) -> Iterator[tuple[int, int]]:
    """From left to right the longest strings of a trie in a text, none of which overlap; no words
    are cut."""
    start = 0
    while start < len(text):
        node: Any = known
        end, longest = start, None
        while (node := node.get(text[end : end + 1])) is not None:
            end += 1
            if END in node and not _is_in_word(text, end):
                longest = end
        if longest is None or _is_in_word(text, start):
            start += 1
        else:
            yield start, longest
            start = longest


def _is_in_word(text: str, place: int) -> bool:
    """Whether a word goes on here, of a script that has spaces between words."""
    around = text[max(place - 1, 0) : place + 1]
    return len(around) == 2 and around.isalnum() and not IS_CJK.search(around)
