"""Keep evaluation sets out of pretraining: a document that shares a long passage with one of their
texts is dropped (Brown et al. 2020, appendix C). Pure.

A passage is so many characters in a row, without punctuation and case: 13 in scripts like Chinese,
50 else, about ten words. A document is looked through for passages of both kinds, since it may
quote a text of another script than its own.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from trainers.corpora.cleaning.units import is_cjk
from trainers.corpora.duplicates.minhash import Hashes, ngrams, plain

PASSAGE = {True: 13, False: 50}
"""Characters, in scripts like Chinese and in others."""


@dataclasses.dataclass(frozen=True)
class Passages:
    """Hashes of the passages of evaluation texts, sorted, of each kind."""

    of_kind: dict[bool, Hashes]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Passages":
        """All passages of these texts; none of texts that are shorter."""
        found: dict[bool, list[Hashes]] = {True: [], False: []}
        for text in texts:
            cjk = is_cjk(text)
            found[cjk].append(ngrams(plain(text, cjk), PASSAGE[cjk]))
        return cls({cjk: np.unique(np.concatenate(some)) for cjk, some in found.items() if some})

    def __bool__(self) -> bool:
        return any(map(len, self.of_kind.values()))

    def are_in(self, text: str) -> bool:
        """Whether a text holds one of them."""
        for cjk, known in self.of_kind.items():
            own = ngrams(plain(text, cjk), PASSAGE[cjk])
            at = np.minimum(np.searchsorted(known, own), len(known) - 1)
            if len(known) and (known[at] == own).any():
                return True
        return False
