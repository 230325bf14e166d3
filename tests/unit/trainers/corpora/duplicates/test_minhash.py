import random

import numpy as np
import pytest

from tests.reviews import edited, reviews
from trainers.corpora.cleaning.units import is_cjk
from trainers.corpora.duplicates import minhash
from trainers.corpora.duplicates.minhash import (
    PERMUTATIONS,
    band_rows,
    bands,
    signatures,
    sketches,
)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [line for line in dict.fromkeys(reviews()) if len(line) >= 20][:400]


def shingles(text: str) -> list[int]:
    hashes, (size,) = minhash.shingles([text], is_cjk(text))
    assert len(hashes) == size
    return sorted(hashes.tolist())


def edges(texts: list[str], groups: list[int]) -> list[list[int]]:
    """Pairs of texts that are alike, of those that met in groups."""
    signed, sizes = signatures(texts)
    found, numbers = sketches(signed), np.arange(len(texts))
    return minhash.alike(
        np.array(groups, np.uint64), numbers, lambda some: (found[some], sizes[some]), 0.4
    ).tolist()


def alike(first: str, second: str) -> bool:
    return bool(edges([first, second], [0, 0]))


def test_punctuation_case_and_width_make_no_difference() -> None:
    assert shingles("很好，非常满意！") == shingles("很好 非常满意")
    assert shingles("A Good Book.") == shingles("a good  book")
    assert shingles("Naïve? No.") == shingles("NAÏVE no")
    assert len(shingles("！")) == len(shingles("!")) == 1


def test_a_phrase_counts_as_often_as_it_occurs() -> None:
    once, twice = "质量很好，送货很快", "质量很好，送货很快，质量很好，送货很快"
    shared = np.intersect1d(shingles(once), shingles(twice))
    assert len(shared) == len(shingles(once)) == len(set(shingles(once)))
    assert len(set(shingles(twice))) == len(shingles(twice)) > 2 * len(shared)


def test_texts_together_have_the_shingles_that_each_has_alone(texts: list[str]) -> None:
    some = [text for text in texts if is_cjk(text)] + ["好好好好好", "好", "！"]
    hashes, sizes = minhash.shingles(some, cjk=True)
    ends = np.cumsum(sizes)
    together = [sorted(part.tolist()) for part in np.split(hashes, ends[:-1])]
    assert together == [sorted(minhash.shingles([text], cjk=True)[0].tolist()) for text in some]
    assert len(set(together[-3])) == 4


@pytest.mark.parametrize(
    ("first", "second"),
    [("很好", "很好看"), ("好", "差"), ("不错，推荐", "不错，不推荐"), ("！", "？")],
)
def test_short_texts_do_not_collapse(first: str, second: str) -> None:
    assert not alike(first, second)
    assert alike(first, first)


def test_edited_reviews_are_found_and_others_are_not(texts: list[str]) -> None:
    drawn, count = random.Random(17), len(texts)
    for rate, least in ((0.05, 0.99), (0.1, 0.97)):
        changed = [edited(text, rate, drawn) for text in texts]
        found = edges(texts + changed, [*range(count)] * 2)
        assert all(second - first == -count for second, first in [(b, a) for a, b in found])
        assert len(found) / count >= least
    assert len(edges(texts, [0] * count)) <= 2


def test_what_is_not_like_the_first_of_its_group_is_compared_with_others(texts: list[str]) -> None:
    drawn = random.Random(17)
    one, other, third = texts[:3]
    group = [one, other, edited(other, 0.05, drawn), edited(one, 0.05, drawn), third]
    assert edges(group, [7] * 5) == [[2, 1], [3, 0]]
    assert edges(group, [0, 1, 2, 3, 4]) == [], "those that did not meet are not compared"
    assert edges(group, [0, 0, 1, 0, 1]) == [[3, 0]]


def test_similar_texts_meet_in_a_band(texts: list[str]) -> None:
    drawn = random.Random(17)
    rows = band_rows(0.4)
    found, _ = signatures(texts)
    changed, _ = signatures([edited(text, 0.1, drawn) for text in texts])
    met = (bands(found, rows) == bands(changed, rows)).any(axis=1)
    assert met.mean() > 0.99


def test_sketches_agree_where_signatures_do_and_hardly_elsewhere(texts: list[str]) -> None:
    drawn = random.Random(17)
    one, other = (signatures(some)[0] for some in (texts, [edited(t, 0.3, drawn) for t in texts]))
    agree, sketches_agree = one == other, sketches(one) == sketches(other)
    assert 0.1 < agree.mean() < 0.9
    assert sketches_agree[agree].all()
    assert sketches_agree[~agree].mean() == pytest.approx(minhash.CHANCE, rel=0.3)


def test_a_higher_similarity_takes_longer_bands() -> None:
    assert [band_rows(similarity) for similarity in (0.4, 0.6, 0.8, 0.95)] == [3, 4, 8, 21]
    assert bands(np.zeros((3, PERMUTATIONS), np.uint32), 5).shape == (3, 25)


def test_no_texts_have_no_signatures() -> None:
    found, sizes = signatures([])
    assert found.shape == (0, PERMUTATIONS)
    assert len(sizes) == 0
