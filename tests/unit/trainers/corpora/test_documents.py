from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from cluster.errors import UserError
from trainers.corpora.config import Clean, Corpora, Split
from trainers.corpora.documents import (
    Counts,
    cleaned,
    labelled,
    share,
    split_of,
    text_key,
)
from trainers.corpora.formats.rows import NOT_UTF8, Problem
from trainers.corpora.readers import Document


def raw(texts: Iterable[str | None]) -> list[Document]:
    return [
        Document(text, None, f"a.txt:{line}", NOT_UTF8 if text is None else None)
        for line, text in enumerate(texts, start=1)
    ]


def test_every_dropped_document_is_counted_by_reason() -> None:
    counts = Counts()
    clean = Clean(max_characters=5, max_unreadable=0.5)
    texts = [" fine ", "x", "", "too long to keep", None, "good"]
    kept = list(cleaned(raw(texts), clean, counts))
    assert [document.text for document in kept] == ["fine", "good"]
    assert [document.where for document in kept] == ["a.txt:1", "a.txt:6"]
    assert counts.report() == {
        "read": 6,
        "dropped": {"not UTF-8": 1, "too long": 1, "too short": 2},
        "kept": 2,
        "masked": {},
    }
    assert counts.shown_samples()["too long"] == ["too long to keep"]
    assert sorted(counts.shown_samples()["kept"]) == ["fine", "good"]


def test_counts_add_up() -> None:
    total = Counts(3, Counter({"too short": 1}), 2) + Counts(2, Counter({"too long": 2}), 0)
    assert total == Counts(5, Counter({"too short": 1, "too long": 2}), 2)


def test_samples_do_not_depend_on_the_order_or_the_parts() -> None:
    texts = [f"text {number}" for number in range(40)]
    whole = Counts()
    list(cleaned(raw(texts), Clean(), whole))
    parts = Counts()
    for start in (30, 0, 20, 10):
        part = Counts()
        list(cleaned(raw(reversed(texts[start : start + 10])), Clean(), part))
        parts += part
    assert len(whole.shown_samples()["kept"]) == 3
    assert parts == whole


def test_what_is_masked_is_counted() -> None:
    counts = Counts()
    clean = Clean(mask=("phone",))
    found = list(cleaned(raw(["打 13812345678", "或 010-88886666"]), clean, counts))
    assert [document.text for document in found] == ["打 <PHONE>", "或 <PHONE>"]
    assert counts.report()["masked"] == {"phone": 2}


def test_labelled_documents_are_not_judged_by_quality(reviews: Corpora) -> None:
    strict = {"clean": {"languages": ["zh"], "quality": {}}, **reviews.model_dump(mode="json")}
    strict["clean"] = {"languages": ["zh"], "quality": {}}
    assert len(list(labelled(Corpora.model_validate(strict), Counts()))) == 3


def test_unreadable_rows_are_dropped_up_to_the_limit_and_refused_past_it() -> None:
    broken = Document(None, None, "a.txt:101", Problem("not JSON", "EOF"))
    documents = [*raw(["fine"] * 98), broken, *raw([None])]
    counts = Counts()
    assert len(list(cleaned(documents, Clean(max_unreadable=0.02), counts))) == 98
    assert counts.report()["dropped"] == {"not JSON": 1, "not UTF-8": 1}
    with pytest.raises(UserError) as caught:
        list(cleaned(documents, Clean(max_unreadable=0.019), Counts()))
    assert str(caught.value) == (
        "a.txt:101: not JSON: EOF (the first of 2 unreadable rows in 100, over "
        "corpora.clean.max_unreadable = 0.019; mend them, or raise it to drop them)"
    )


def test_the_split_follows_from_the_text_alone() -> None:
    """The very values: another function would move texts between the splits of existing models."""
    keys = [text_key(f"text {number}") for number in range(9)]
    assert keys[0] == 12015010314566115819
    found = [split_of(key, 17, Split()) for key in keys]
    assert [number for number, split in enumerate(found) if split == "validation"] == [1, 7]
    assert found.count("train") == 7


def test_splits_have_their_shares() -> None:
    split = Split(validation=0.1, test=0.2)
    found = Counter(split_of(text_key(str(number)), 17, split) for number in range(5000))
    assert found["test"] == pytest.approx(1000, abs=120)
    assert found["validation"] == pytest.approx(500, abs=90)


def test_what_a_text_draws_differs_by_seed_and_purpose() -> None:
    drawn = {share(5, seed, purpose) for seed in (1, 2) for purpose in ("split", "pretraining")}
    assert len(drawn) == 4
    assert all(0 <= value < 1 for value in drawn)


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpora:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.txt").write_text("fine\nboth\nfine \nboth\n")
    (tmp_path / "bad.txt").write_text("awful\nx\nboth\nfine food\n")
    (tmp_path / "news.txt").write_text("awful\n")
    sources = {
        "good": {"path": "good.txt", "label": "good"},
        "bad": {"path": "bad.txt", "label": "bad"},
        "news": {"path": "news.txt"},
    }
    return Corpora.model_validate({"sources": sources})


def test_repetitions_and_texts_with_two_labels_are_dropped(reviews: Corpora) -> None:
    counts = Counts()
    found = list(labelled(reviews, counts))
    assert [(document.text, document.label) for _, document in found] == [
        ("fine", "good"),
        ("awful", "bad"),
        ("fine food", "bad"),
    ]
    assert [key for key, _ in found] == [text_key(document.text or "") for _, document in found]
    assert counts.report() == {
        "read": 8,
        "dropped": {"exact duplicate": 3, "too short": 1, "two labels": 1},
        "kept": 3,
        "masked": {},
    }
