"""Keep evaluation sets out of training: a document that shares a long passage with one of their
texts is dropped (Brown et al. 2020, appendix C). Pure.

A passage is so many characters in a row, without punctuation and case: 13 in scripts like Chinese,
50 else, about ten words. A document is looked through for passages of both kinds, since it may
quote a text of another script than its own.

What many training documents share, such as a greeting or a footer, is boilerplate and says nothing
of a text that has it too. So the passages in all documents are found first, then counted, and only
then it is decided which documents quote.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from trainers.corpora.cleaning.units import is_cjk
from trainers.corpora.duplicates.minhash import Hashes, ngrams, plain
from trainers.corpora.hashing import distinct
from trainers.corpora.text_batches import batched

PASSAGE = {True: 13, False: 50}
"""Characters, in scripts like Chinese and in others."""
COMMON = 10
"""Documents: a passage in more of them is boilerplate, as in Brown et al. (marin#7126 tells what
happens otherwise). In few documents, one in more than half."""
HIT = np.dtype([("row", np.int64), ("at", np.int32), ("passage", np.int32)])
"""A passage in a document: the document's row, where it stands in it, and its number."""
TOGETHER = 1 << 20
"""Characters of texts that are looked through at once."""
KIND_STEP = 1 << 30
"""Between places of the two kinds, so that they are never near each other; longer than a text."""

Hits = npt.NDArray[np.void]
Rows = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Passages:
    """Hashes of the passages of evaluation texts, sorted, of each kind. Those of scripts like
    Chinese have the lower numbers."""

    of_kind: dict[bool, Hashes]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Passages":
        """All passages of these texts; none of texts that are shorter."""
        empty = np.empty(0, np.uint64)
        found: dict[bool, list[Hashes]] = {True: [empty], False: [empty]}
        for batch in batched(texts, TOGETHER):
            are_cjk = list(map(is_cjk, batch))
            for cjk in found:
                own = [text for text, is_own in zip(batch, are_cjk, strict=True) if is_own == cjk]
                found[cjk].append(distinct(_passages(own, cjk)[0]))
        return cls({cjk: distinct(np.concatenate(some)) for cjk, some in found.items()})

    def __len__(self) -> int:
        return sum(map(len, self.of_kind.values()))

    def hits(self, texts: Iterable[str], rows: Iterable[int]) -> Hits:
        """The passages that are in these texts, by rows and places."""
        found = [np.empty(0, HIT)]
        waiting = iter(rows)
        for batch in batched(texts, TOGETHER):
            numbers = np.array(list(itertools.islice(waiting, len(batch))), np.int64)
            first_number = 0
            for kind, (cjk, known) in enumerate(self.of_kind.items()):
                if len(known):
                    own, owners, at = _passages(batch, cjk)
                    nearest = np.minimum(np.searchsorted(known, own), len(known) - 1)
                    hit = np.flatnonzero(known[nearest] == own)
                    hits = np.empty(len(hit), HIT)
                    hits["row"], hits["at"] = numbers[owners[hit]], at[hit] + kind * KIND_STEP
                    hits["passage"] = nearest[hit] + first_number
                    found.append(hits)
                first_number += len(known)
        return np.concatenate(found)

    def documents_with(self, hits: Hits) -> Counts:
        """(passages,): how many of the documents have each."""
        pairs = np.unique(hits[["row", "passage"]])
        return np.bincount(pairs["passage"], minlength=len(self))

    def quoting(self, hits: Hits, is_boilerplate: npt.NDArray[np.bool_]) -> Rows:
        """The rows of documents with a passage that is not boilerplate, nor overlaps with any: the
        end of a greeting with the first letter behind it is rarer than the greeting."""
        places = (hits["row"] << 32) + hits["at"]
        common = is_boilerplate[hits["passage"]]
        size = np.where(hits["passage"] < len(self.of_kind[True]), PASSAGE[True], PASSAGE[False])
        far = np.int64(1) << 62
        boilerplate = np.concatenate([[-far], np.sort(places[common]), [far]])
        after = np.searchsorted(boilerplate, places)
        distance = np.minimum(boilerplate[after] - places, places - boilerplate[after - 1])
        return np.unique(hits["row"][~common & (distance >= size)])


def boilerplate(documents_with: Counts, documents: int) -> npt.NDArray[np.bool_]:
    """(passages,): whether each is boilerplate, by how many of so many documents have it."""
    return documents_with > min(COMMON, max(2, documents // 2))


def _passages(texts: Sequence[str], cjk: bool) -> tuple[Hashes, Rows, Rows]:
    """All passages of one kind in texts, whose text each is in, and where it stands there. All
    texts at once: of a short one, each call of numpy would take longer than its work."""
    letters = [plain(text, cjk) for text in texts]
    sizes = np.array(list(map(len, letters)), np.int64)
    hashes = ngrams("".join(letters), PASSAGE[cjk])
    owners = np.repeat(np.arange(len(letters)), sizes)[: len(hashes)]
    at = np.arange(len(hashes)) - (np.cumsum(sizes) - sizes)[owners]
    inside = at + PASSAGE[cjk] <= sizes[owners]
    return hashes[inside], owners[inside], at[inside]
