"""Quality of near deduplication at `similarity: 0.4`, on 3,000 Chinese and 3,000 English texts.

Recall: of copies with 5, 10 or 20 % of their characters edited, those that end in the cluster of
their original. Precision: of all pairs that are found, planted or not, those that are duplicates by
the texts alone: at least half of the longer text stands unchanged (Levenshtein similarity of 0.5,
which unrelated texts are far from, at about 0.25). Docstrings are a hard case: families of
functions share most of their text, and differ in what matters.
"""

import functools
import random

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tests.bench import texts
from tests.reviews import edited
from trainers.corpora.duplicates import minhash

SIMILARITY = 0.4
TEXTS = 3000
SAME, NEARLY_EQUAL = 0.5, 0.8
"""Levenshtein similarity."""


def chinese() -> list[str]:
    return texts.chinese()[:TEXTS]


def english() -> list[str]:
    return [" ".join(text.split()) for text in texts.english()[:TEXTS]]


def found_pairs(documents: list[str]) -> npt.NDArray[np.int64]:
    """(pairs, 2): texts that near deduplication brings together, before clustering."""
    return minhash.alike_among(documents, SIMILARITY)


@functools.cache
def quality(language: str, rate: float) -> tuple[float, npt.NDArray[np.float64]]:
    """Recall of the copies, and the Levenshtein similarity of every pair that was found."""
    from rapidfuzz.distance import Levenshtein

    originals = {"zh": chinese, "en": english}[language]()
    drawn = random.Random(17)
    documents = originals + [edited(text, rate, drawn) for text in originals]
    pairs = found_pairs(documents)
    graph = coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(len(documents),) * 2)
    _, cluster = connected_components(graph, directed=False)
    recall = float((cluster[: len(originals)] == cluster[len(originals) :]).mean())
    alike = [Levenshtein.normalized_similarity(documents[a], documents[b]) for a, b in pairs]
    return recall, np.array(alike)


def recall(rate: float) -> float:
    """The lower of Chinese and English."""
    return min(quality(language, rate)[0] for language in ("zh", "en"))


def precision(level: float) -> float:
    """The lower of Chinese and English, copies with a tenth edited among the texts."""
    return min(float((quality(language, 0.1)[1] >= level).mean()) for language in ("zh", "en"))
