"""What pretraining may read: nothing twice, and nothing that evaluation holds out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from trainers.corpora import selection
from trainers.corpora.config import Corpora
from trainers.corpora.documents import Counts, text_key
from trainers.corpora.selection import Rows, choose, shards

SEED = 17


def corpora(**sources: Mapping[str, Any]) -> Corpora:
    given = {name: {"path": "x", **source} for name, source in sources.items()}
    return Corpora.model_validate({"sources": given})


def keys(texts: Sequence[str]) -> Any:
    return np.array([text_key(text) for text in texts], dtype=np.uint64)


def texts_of(rows: Sequence[Rows], parts: Mapping[str, Sequence[str]]) -> list[str]:
    return [parts[piece.part][row] for piece in rows for row in piece.rows]


NEWS = [f"news {number}" for number in range(200)]
REVIEWS = [f"review {number}" for number in range(200)]
PARTS = {"news-0": NEWS[:120], "news-1": [*NEWS[100:], *REVIEWS[:50]], "reviews-0": REVIEWS}
KEYS = {
    "news": {name: keys(PARTS[name]) for name in ("news-0", "news-1")},
    "reviews": {"reviews-0": keys(PARTS["reviews-0"])},
}
HELD_OUT = set(REVIEWS[::5])


@pytest.fixture(params=[0, 1, 3], ids=lambda repeat: f"repeat {repeat}")
def repeat(request: pytest.FixtureRequest) -> int:
    return request.param


def chosen(repeat: int) -> tuple[dict[str, list[str]], dict[str, Counts]]:
    settings = corpora(news={}, reviews={"label": "good", "repeat": repeat})
    found, counts = choose(KEYS, set(keys(sorted(HELD_OUT)).tolist()), settings, SEED)
    return {split: texts_of(rows, PARTS) for split, rows in found.items()}, counts


def test_what_evaluation_holds_out_is_never_read(repeat: int) -> None:
    """Also where it stands in an unlabelled source, and where the labelled one is left out."""
    found, _ = chosen(repeat)
    assert not HELD_OUT & {*found["train"], *found["validation"]}
    assert set(found["train"]) | set(found["validation"]) | HELD_OUT >= {*NEWS, *REVIEWS[:50]}


def test_validation_texts_are_not_trained_on(repeat: int) -> None:
    found, _ = chosen(repeat)
    assert found["validation"]
    assert not set(found["train"]) & set(found["validation"])


def test_a_source_is_repeated_in_training_alone(repeat: int) -> None:
    found, _ = chosen(repeat)
    times = Counter(found["train"])
    assert {times[text] for text in NEWS if text in times} == {1}
    # The first fifty stand in the news too, and are theirs.
    assert {times[text] for text in REVIEWS[50:] if text in times} == ({repeat} - {0})
    assert set(Counter(found["validation"]).values()) == {1}


def test_every_dropped_document_is_counted() -> None:
    _, counts = chosen(repeat=1)
    in_news = sum(text in HELD_OUT for text in REVIEWS[:50])
    in_reviews = len(HELD_OUT) - in_news
    assert counts["news"].report() == {
        "read": 0,
        "dropped": {"exact duplicate": 20, "held out for fine-tuning": in_news},
        "kept": 250 - in_news,
        "masked": {},
    }
    assert counts["reviews"].report() == {
        "read": 0,
        "dropped": {"exact duplicate": 50, "held out for fine-tuning": in_reviews},
        "kept": 150 - in_reviews,
        "masked": {},
    }


def test_the_choice_follows_from_texts_and_seed() -> None:
    settings = corpora(news={}, reviews={"label": "good"})

    def first(seed: int) -> list[list[int]]:
        found, _ = choose(KEYS, set(), settings, seed)
        return [piece.rows.tolist() for piece in found["validation"]]

    assert first(SEED) == first(SEED)
    assert first(SEED) != first(SEED + 1)


@pytest.mark.parametrize("documents", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("sizes", [[10], [3, 4, 5], [1, 1, 1], [6, 6]])
def test_shards_hold_every_row_in_order(sizes: list[int], documents: int) -> None:
    rows = [Rows(f"part-{number}", np.arange(size)) for number, size in enumerate(sizes)]
    made = shards(rows, documents)

    def flat(pieces: Sequence[Rows]) -> list[tuple[str, int]]:
        return [(piece.part, row) for piece in pieces for row in piece.rows.tolist()]

    assert [item for shard in made for item in flat(shard)] == flat(rows)
    assert all(len(flat(shard)) == documents for shard in made[:-1])
    assert 0 < len(flat(made[-1])) <= documents


def test_no_rows_make_no_shards() -> None:
    assert shards([], 10) == []


def test_parts_come_together_in_the_order_of_the_recipe() -> None:
    found = {
        "train": [Rows("web-1", np.array([3, 5]))] * 2 + [Rows("books-0", np.array([1]))],
        "validation": [Rows("web-1", np.array([4]))],
    }
    together = selection.together(found)
    assert [(piece.part, piece.rows.tolist()) for piece in together] == [
        ("web-1", [3, 4, 5]),
        ("books-0", [1]),
    ]


def test_what_is_dropped_is_counted_by_source() -> None:
    found = {
        "train": [Rows("web-1", np.array([3, 5]))] * 2 + [Rows("books-0", np.array([1]))],
        "validation": [Rows("web-1", np.array([4]))],
    }
    counts = {"web": Counts(kept=3), "books": Counts(kept=1)}
    dropped = {"web-1": np.array([4, 5]), "books-0": np.array([1])}
    selection.drop("why", dropped, found, counts, {"web-1": "web", "books-0": "books"})
    assert [(piece.part, piece.rows.tolist()) for piece in found["train"]] == [("web-1", [3])] * 2
    assert found["validation"] == []
    assert counts["web"] == Counts(dropped=Counter({"why": 2}), kept=1)
    assert counts["books"].kept == 0
