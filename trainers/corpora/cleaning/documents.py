"""From raw documents to clean ones. Every dropped document is counted by reason, and a few are kept
as samples. What a text draws is a function of the text, whatever file or source it comes from."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.errors import UserError
from trainers.corpora.cleaning.alignment import Aligned, aligned
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.rules import mend, normalize, refusal
from trainers.corpora.reading.readers import Document, too_many_unreadable

EXACT, NEAR = "exact duplicate", "near duplicate"
HELD_OUT, CONTAMINATED = "evaluation text", "passage of an evaluation text"
"""Reasons to drop a document for what stands elsewhere; those of its own are named where they are
found."""
KEPT = "kept"
SAMPLES = 3
"""Of each reason, and of what is kept."""
SAMPLE_CHARACTERS = 200


@dataclasses.dataclass
class Counts:
    """Documents in, dropped by reason, kept; what was masked in those, by kind; and what a task
    found worth telling of rows that it takes, by what it is."""

    read: int = 0
    dropped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    kept: int = 0
    masked: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    samples: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    """Beginnings of texts by their key: of each reason those with the lowest keys, which are the
    same in whatever order and parts the documents were read."""
    noted: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def __add__(self, other: "Counts") -> "Counts":
        total = Counts()
        total.add(self)
        total.add(other)
        return total

    def add(self, other: "Counts") -> None:
        """Adds other counts to these."""
        self.read += other.read
        self.dropped.update(other.dropped)
        self.kept += other.kept
        self.masked.update(other.masked)
        self.noted.update(other.noted)
        for reason, texts in other.samples.items():
            self._sample(reason, texts)

    def sample(self, reason: str, key: int, text: str) -> None:
        """Offers a text as a sample."""
        self._sample(reason, {f"{key:016x}": text[:SAMPLE_CHARACTERS]})

    def _sample(self, reason: str, texts: Mapping[str, str]) -> None:
        lowest = sorted({**self.samples.get(reason, {}), **texts}.items())[:SAMPLES]
        self.samples[reason] = dict(lowest)

    def drop(self, reason: str, key: int, text: str) -> None:
        """Counts one document that is dropped, and offers it as a sample."""
        self.dropped[reason] += 1
        self.sample(reason, key, text)

    def document(self) -> dict[str, Any]:
        """As JSON, for `of`."""
        return {**self.report(), "samples": self.samples, "noted": dict(self.noted)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Counts":
        counters = {
            key: collections.Counter(document[key]) for key in ("dropped", "masked", "noted")
        }
        return cls(**{**document, **counters})

    def report(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "dropped": dict(sorted(self.dropped.items())),
            "kept": self.kept,
            "masked": dict(sorted(self.masked.items())),
        }

    def shown_samples(self) -> dict[str, list[str]]:
        return {reason: [*texts.values()] for reason, texts in sorted(self.samples.items())}


@dataclasses.dataclass(frozen=True)
class Normalizer:
    """Cleans the texts of documents, and counts what it masks."""

    clean: Clean
    counts: Counts

    def __call__(self, text: str) -> str:
        return normalize(text, self.clean, self.counts.masked)

    def mend(self, text: str) -> str:
        """Leaves the layout and signs of a text as they are."""
        return mend(text, self.clean, self.counts.masked)

    def aligned(self, text: str) -> Aligned:
        """A clean text, with where each of its characters comes from."""
        return aligned(text, self.clean, self.counts.masked)

    def note(self, what: str, number: int = 1) -> None:
        """Counts what is to be told of a row that stays."""
        if number:
            self.counts.noted[what] += number


def clean_text(document: Document, clean: Normalizer) -> Document:
    assert document.text is not None
    return dataclasses.replace(document, text=clean(document.text))


def cleaned(
    documents: Iterable[Document],
    clean: Clean,
    counts: Counts,
    refuse: Callable[[str, Clean], str | None] = refusal,
    clean_document: Callable[[Document, Normalizer], Document] = clean_text,
) -> Iterator[Document]:
    """The documents that stay, normalized. Raises UserError if too many rows cannot be read."""
    rows = unreadable = 0
    normalizer = Normalizer(clean, counts)
    first: Document | None = None
    for document in documents:
        counts.read += 1
        rows += 1
        if document.text is None:
            assert document.problem is not None
            message = f"{document.where}: {document.problem}"
            counts.drop(document.problem.reason, text_key(message), message)
            unreadable += 1
            first = first or document
            continue
        document = clean_document(document, normalizer)
        text = document.text
        assert text is not None
        reason = refuse(text, clean)
        if reason:
            counts.drop(reason, text_key(text), text)
        else:
            counts.kept += 1
            yield document
    if first is not None:
        refused = too_many_unreadable(first, unreadable, rows, clean.max_unreadable)
        if refused is not None:
            raise UserError(refused)


def by_bit_length(values: npt.NDArray[np.integer[Any]]) -> dict[str, int]:
    """A histogram that adds up: how many have 2^(k-1) <= value < 2^k, by k."""
    counted = np.bincount(np.frexp(values.astype(np.float64))[1], minlength=1)
    return {str(bits): int(count) for bits, count in enumerate(counted) if count}


def text_key(text: str) -> int:
    """64-bit identity of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def share(key: int, seed: int, purpose: str) -> float:
    """A number in [0, 1) that a text draws for a purpose, independent between purposes."""
    digest = hashlib.blake2b(f"{purpose}:{seed}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
