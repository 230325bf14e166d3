"""Labelled documents of all sources: their labels mapped or voted on, each text once.

Equal texts are one document: the label is that of a held-out file before others, and of people
before rules; the groups are those of all. Texts that then have two labels are dropped.

All are in the memory of one process, with the votes on those of one source: their texts, and about
1 KB a document.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from cluster.errors import UserError
from trainers.corpora.cleaning.clean import too_short_or_long
from trainers.corpora.cleaning.documents import EXACT, Counts, cleaned, text_key
from trainers.corpora.config import Corpora
from trainers.corpora.labels import weak
from trainers.corpora.labels.splits import SHARES, STRENGTH, Example, stronger
from trainers.corpora.labels.values import key_in, not_in_map
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import Document, read
from trainers.corpora.reading.sources import parts

TWO_LABELS, MAPPED_TO_NULL = "two labels", "label mapped to null"


@dataclasses.dataclass
class Copies:
    """A text, with what all its copies say."""

    text: str
    where: str
    """Of the first copy."""
    labels: set[str]
    """Of the copies of the highest rank."""
    rank: tuple[bool, int]
    """Whether people gave the label, and how strongly the copy is held out, if it is."""
    placement: str
    groups: frozenset[str]

    def add(self, other: "Copies") -> None:
        if other.rank > self.rank:
            self.labels, self.rank = other.labels, other.rank
        elif other.rank == self.rank:
            self.labels |= other.labels
        self.placement = stronger(self.placement, other.placement)
        self.groups |= other.groups


def labelled(
    corpora: Corpora, counts: Counts, tell: Callable[[str], None] = lambda line: None
) -> tuple[list[Example], dict[str, Any]]:
    """Documents in the order of their keys, and a report of every source with weak labels. Calls
    `tell` with a line for files that are passed over. Raises UserError."""
    found: dict[int, Copies] = {}
    for name, source in corpora.sources.items():
        if source.is_labelled and source.weak_labels is None:
            before = counts.read
            for document in _documents(corpora, name, counts, tell):
                label = _mapped(document, source, f"corpora.sources.{name}", counts)
                if label is not None:
                    _add(found, _copy(document, source, label), counts)
            if counts.read == before:
                origin = source.path or source.dataset
                raise UserError(f"corpora.sources.{name}: no rows in {origin!r}")
    gold = {key: min(copies.labels) for key, copies in found.items() if len(copies.labels) == 1}
    reports = {
        name: _add_weak(found, gold, corpora, name, counts, tell)
        for name, source in corpora.sources.items()
        if source.weak_labels is not None
    }
    kept = []
    for key, copies in sorted(found.items()):
        if len(copies.labels) > 1:
            counts.drop(TWO_LABELS, key, copies.text)
        else:
            (label,) = copies.labels
            kept.append(
                Example(key, copies.text, label, copies.where, copies.placement, copies.groups)
            )
    counts.kept += len(kept)
    return kept, reports


def _documents(
    corpora: Corpora, name: str, counts: Counts, tell: Callable[[str], None]
) -> Iterator[Document]:
    source = corpora.sources[name]
    for part in parts(source, f"corpora.sources.{name}", tell=tell):
        part_counts = Counts()
        yield from cleaned(read(source, part), corpora.clean, part_counts, too_short_or_long)
        part_counts.kept = 0  # not yet: what becomes of its label decides
        counts.add(part_counts)


def _mapped(document: Document, source: Source, key: str, counts: Counts) -> str | None:
    """The document's label by the source's map; None for one to drop, which is counted."""
    label, label_map = document.label, source.label_map
    assert label is not None
    if label_map is None:
        return label
    known = key_in(label_map, label)
    if known is None:
        raise UserError(f"{document.where}: {not_in_map(label, label_map, key)}")
    if label_map[known] is None:
        assert document.text is not None
        counts.drop(MAPPED_TO_NULL, text_key(document.text), document.text)
    return label_map[known]


def _copy(document: Document, source: Source, *labels: str) -> Copies:
    assert document.text is not None
    return Copies(
        document.text,
        document.where,
        set(labels),
        (source.weak_labels is None, max(STRENGTH.index(source.placement), STRENGTH.index(SHARES))),
        source.placement,
        frozenset() if document.group is None else frozenset({document.group}),
    )


def _add(found: dict[int, Copies], document: Copies, counts: Counts) -> None:
    key = text_key(document.text)
    first = found.setdefault(key, document)
    if first is not document:
        first.add(document)
        counts.drop(EXACT, key, document.text)


def _add_weak(
    found: dict[int, Copies],
    gold: dict[int, str],
    corpora: Corpora,
    name: str,
    counts: Counts,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Adds what the rules of one source label; returns the report of them."""
    source, key = corpora.sources[name], f"corpora.sources.{name}.weak_labels"
    assert source.weak_labels is not None
    rules = weak.patterns(source.weak_labels, corpora.clean, key)
    own: dict[int, Copies] = {}
    for document in _documents(corpora, name, counts, tell):
        _add(own, _copy(document, source), counts)
    labelling = weak.label([copies.text for copies in own.values()], source.weak_labels, rules)
    for (own_key, copies), label, why in zip(
        own.items(), labelling.labels, labelling.open, strict=True
    ):
        if label is None:
            assert why is not None
            counts.drop(why, own_key, copies.text)
        else:
            copies.labels = {label}
            _add(found, copies, counts)
    known = {place: gold[key] for place, key in enumerate(own) if key in gold}
    return weak.report(source.weak_labels, labelling, known)
