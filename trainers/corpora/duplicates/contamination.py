"""Keep evaluation sets out of pretraining: a document that shares a long passage with one of their
texts is dropped (Brown et al. 2020, appendix C). Pure.

A passage is so many characters in a row, without punctuation and case: 13 in scripts like Chinese,
50 else, about ten words.
"""

from collections.abc import Iterable

import numpy as np

from trainers.corpora.duplicates.minhash import Hashes, ngrams

PASSAGE = {"cjk": 13, "other": 50}


def passages(texts: Iterable[str]) -> Hashes:
    """Hashes of all passages of these texts, sorted; none of texts that are shorter."""
    found = [ngrams(text, PASSAGE) for text in texts]
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)


def is_contaminated(text: str, known: Hashes) -> bool:
    """Whether a text holds one of the known passages."""
    if not len(known):
        return False
    own = ngrams(text, PASSAGE)
    at = np.minimum(np.searchsorted(known, own), len(known) - 1)
    return bool((known[at] == own).any())
