import random

import numpy as np
import pytest

from tests.reviews import edited, reviews
from trainers.corpora.minhash import PERMUTATIONS, band_rows, bands, matches, shingles, signatures


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [line for line in dict.fromkeys(reviews()) if len(line) >= 20][:400]


def alike(first: str, second: str, similarity: float = 0.4) -> bool:
    found, sizes = signatures([first, second])
    return any(True for _ in matches(found, sizes, similarity))


def test_punctuation_case_and_width_make_no_difference() -> None:
    assert (shingles("很好，非常满意！") == shingles("很好 非常满意")).all()
    assert (shingles("A Good Book.") == shingles("a good  book")).all()
    assert (shingles("Naïve? No.") == shingles("NAÏVE no")).all()
    assert len(shingles("！")) == len(shingles("!")) == 1


def test_a_phrase_counts_as_often_as_it_occurs() -> None:
    once, twice = "质量很好，送货很快", "质量很好，送货很快，质量很好，送货很快"
    shared = np.intersect1d(shingles(once), shingles(twice))
    assert len(shared) == len(shingles(once)) == len(set(shingles(once)))
    assert len(set(shingles(twice))) == len(shingles(twice)) > 2 * len(shared)


@pytest.mark.parametrize(
    ("first", "second"),
    [("很好", "很好看"), ("好", "差"), ("不错，推荐", "不错，不推荐"), ("！", "？")],
)
def test_short_texts_do_not_collapse(first: str, second: str) -> None:
    assert not alike(first, second)
    assert alike(first, first)


def test_edited_reviews_are_found_and_others_are_not(texts: list[str]) -> None:
    drawn = random.Random(17)
    found, sizes = signatures(texts)
    for rate, least in ((0.05, 0.99), (0.1, 0.97)):
        changed, changed_sizes = signatures([edited(text, rate, drawn) for text in texts])
        pairs = [
            next(matches(np.stack([a, b]), np.array([m, n]), 0.4), None)
            for a, b, m, n in zip(found, changed, sizes, changed_sizes, strict=True)
        ]
        assert np.mean([pair is not None for pair in pairs]) >= least
    (groups,) = [list(matches(found, sizes, 0.4))]
    assert len(groups) <= 2


def test_similar_texts_meet_in_a_band(texts: list[str]) -> None:
    drawn = random.Random(17)
    rows = band_rows(0.4)
    found, _ = signatures(texts)
    changed, _ = signatures([edited(text, 0.1, drawn) for text in texts])
    met = (bands(found, rows) == bands(changed, rows)).any(axis=1)
    assert met.mean() > 0.99


def test_a_higher_similarity_takes_longer_bands() -> None:
    assert [band_rows(similarity) for similarity in (0.4, 0.6, 0.8, 0.95)] == [3, 4, 8, 21]
    assert bands(np.zeros((3, PERMUTATIONS), np.uint32), 5).shape == (3, 25)


def test_no_texts_have_no_signatures() -> None:
    found, sizes = signatures([])
    assert found.shape == (0, PERMUTATIONS)
    assert len(sizes) == 0
