"""From raw documents to clean ones. Every dropped document is counted by reason, and a few are kept
as samples. What a text draws is a function of the text, whatever file or source it comes from."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cluster.errors import UserError
from trainers.corpora.clean import normalize, refusal
from trainers.corpora.config import Clean
from trainers.corpora.sources import Document

KEPT = "kept"
SAMPLES = 3
"""Of each reason, and of what is kept."""
SAMPLE_CHARACTERS = 200


@dataclasses.dataclass
class Counts:
    """Documents in, dropped by reason, kept; and what was masked in those, by kind."""

    read: int = 0
    dropped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    kept: int = 0
    masked: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    samples: dict[str, dict[int, str]] = dataclasses.field(default_factory=dict)
    """Beginnings of texts by their key: of each reason those with the lowest keys, which are the
    same in whatever order and parts the documents were read."""

    def __add__(self, other: "Counts") -> "Counts":
        total = Counts(
            self.read + other.read,
            self.dropped + other.dropped,
            self.kept + other.kept,
            self.masked + other.masked,
        )
        for counts in (self, other):
            for reason, texts in counts.samples.items():
                for key, text in texts.items():
                    total.sample(reason, key, text)
        return total

    def sample(self, reason: str, key: int, text: str) -> None:
        """Offers a text as a sample."""
        texts = self.samples.setdefault(reason, {})
        if len(texts) < SAMPLES or key < max(texts):
            texts[key] = text[:SAMPLE_CHARACTERS]
            if len(texts) > SAMPLES:
                del texts[max(texts)]

    def report(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "dropped": dict(sorted(self.dropped.items())),
            "kept": self.kept,
            "masked": dict(sorted(self.masked.items())),
        }

    def shown_samples(self) -> dict[str, list[str]]:
        return {
            reason: [texts[key] for key in sorted(texts)]
            for reason, texts in sorted(self.samples.items())
        }


def cleaned(
    documents: Iterable[Document],
    clean: Clean,
    counts: Counts,
    refuse: Callable[[str, Clean], str | None] = refusal,
) -> Iterator[Document]:
    """The documents that stay, normalized. Raises UserError if too many are not UTF-8."""
    where = ""
    for document in documents:
        counts.read += 1
        where = document.where
        if document.text is None:
            counts.dropped["not UTF-8"] += 1
            continue
        text = normalize(document.text, clean, counts.masked)
        reason = refuse(text, clean)
        counts.sample(reason or KEPT, text_key(text), text)
        if reason:
            counts.dropped[reason] += 1
        else:
            counts.kept += 1
            yield dataclasses.replace(document, text=text)
    undecodable = counts.dropped["not UTF-8"]
    if undecodable > clean.max_undecodable * counts.read:
        raise UserError(
            f"{where.rpartition(':')[0]}: {undecodable} of {counts.read} documents are not UTF-8, "
            f"over corpora.clean.max_undecodable = {clean.max_undecodable:g}; convert the file, or "
            "raise the limit to drop them"
        )


def text_key(text: str) -> int:
    """64-bit identity of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def share(key: int, seed: int, purpose: str) -> float:
    """A number in [0, 1) that a text draws for a purpose, independent between purposes."""
    digest = hashlib.blake2b(f"{purpose}:{seed}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
