"""Labelled documents of all sources: their labels mapped or voted on, each text once.

Equal texts are one document: the label is that of a held-out file before others, and of people
before rules; the groups are those of all. Texts that then have two labels are dropped.

All are in the memory of one process, with the votes on those of one source: their texts, and about
1 KB a document.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cluster.errors import UserError
from trainers.corpora.cleaning.documents import EXACT, Counts, cleaned, text_key
from trainers.corpora.cleaning.rules import too_short_or_long
from trainers.corpora.config import Corpora
from trainers.corpora.examples import weak
from trainers.corpora.examples.label_values import mapped, refusal_of_labels
from trainers.corpora.examples.splits import SHARES, STRENGTH, Example, stronger
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
    corpora: Corpora,
    sources: Mapping[str, Source],
    several: bool,
    counts: Counts,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[list[Example], dict[str, Any]]:
    """Documents of `sources` in the order of their keys, and a report of every source with weak
    labels. `several` says whether a document may have several labels: then equal texts have those
    of all. Calls `tell` with a line for files that are passed over. Raises UserError."""
    found: dict[int, Copies] = {}
    for name, source in sources.items():
        if source.weak_labels is None:
            before = counts.read
            for document in _documents(corpora, source, name, counts, tell):
                labels = _mapped(document, source, f"corpora.sources.{name}", several, counts)
                if labels is not None:
                    _add(found, _copy(document, source, *labels), counts)
            if counts.read == before:
                origin = source.path or source.dataset
                raise UserError(f"corpora.sources.{name}: no rows in {origin!r}")
    gold = {key: min(copies.labels) for key, copies in found.items() if len(copies.labels) == 1}
    reports = {
        name: _add_weak(found, gold, corpora, source, name, counts, tell)
        for name, source in sources.items()
        if source.weak_labels is not None
    }
    kept = []
    for key, copies in sorted(found.items()):
        if len(copies.labels) > 1 and not several:
            counts.drop(TWO_LABELS, key, copies.text)
        else:
            labels = tuple(sorted(copies.labels))
            kept.append(
                Example(key, copies.text, labels, copies.where, copies.placement, copies.groups)
            )
    counts.kept += len(kept)
    return kept, reports


def _documents(
    corpora: Corpora, source: Source, name: str, counts: Counts, tell: Callable[[str], None]
) -> Iterator[Document]:
    for part in parts(source, f"corpora.sources.{name}", tell=tell):
        part_counts = Counts()
        yield from cleaned(read(source, part), corpora.clean, part_counts, too_short_or_long)
        part_counts.kept = 0  # not yet: what becomes of its label decides
        counts.add(part_counts)


def _mapped(
    document: Document, source: Source, key: str, several: bool, counts: Counts
) -> tuple[str, ...] | None:
    """The document's labels by the source's map; None for one to drop, which is counted."""
    assert document.label is not None
    assert document.text is not None
    refused = refusal_of_labels(document.label, source.label_map, key, several)
    if refused is not None:
        raise UserError(f"{document.where}: {refused}")
    labels = mapped(document.label, source.label_map)
    if labels is None:
        counts.drop(MAPPED_TO_NULL, text_key(document.text), document.text)
    return labels


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
    source: Source,
    name: str,
    counts: Counts,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Adds what the rules of one source label; returns the report of them."""
    key = f"corpora.sources.{name}.weak_labels"
    assert source.weak_labels is not None
    rules = weak.patterns(source.weak_labels, corpora.clean, key)
    own: dict[int, Copies] = {}
    for document in _documents(corpora, source, name, counts, tell):
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
