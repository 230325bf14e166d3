from collections import Counter
from collections.abc import Iterable

import pytest

from cluster.errors import UserError
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import Counts, cleaned, share, text_key
from trainers.corpora.reading.formats.rows import NOT_UTF8, Problem
from trainers.corpora.reading.readers import Document


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
    assert "kept" not in counts.shown_samples(), "what is kept turns out later"


def test_counts_add_up() -> None:
    total = Counts(3, Counter({"too short": 1}), 2) + Counts(2, Counter({"too long": 2}), 0)
    assert total == Counts(5, Counter({"too short": 1, "too long": 2}), 2)


def test_samples_do_not_depend_on_the_order_or_the_parts() -> None:
    texts = [f"text {number}" for number in range(40)]
    whole = Counts()
    strict = Clean(min_characters=100)
    list(cleaned(raw(texts), strict, whole))
    parts = Counts()
    for start in (30, 0, 20, 10):
        part = Counts()
        list(cleaned(raw(reversed(texts[start : start + 10])), strict, part))
        parts += part
    assert len(whole.shown_samples()["too short"]) == 3
    assert parts == whole


def test_what_is_masked_is_counted() -> None:
    counts = Counts()
    clean = Clean(mask=("phone",))
    found = list(cleaned(raw(["打 13812345678", "或 010-88886666"]), clean, counts))
    assert [document.text for document in found] == ["打 <PHONE>", "或 <PHONE>"]
    assert counts.report()["masked"] == {"phone": 2}


def test_unreadable_rows_are_dropped_up_to_the_limit_and_refused_past_it() -> None:
    broken = Document(None, None, "a.txt:101", Problem("not JSON", "EOF"))
    documents = [*raw(["fine"] * 98), broken, *raw([None])]
    counts = Counts()
    assert len(list(cleaned(documents, Clean(max_unreadable=0.02), counts))) == 98
    assert counts.report()["dropped"] == {"not JSON": 1, "not UTF-8": 1}
    with pytest.raises(UserError) as caught:
        list(cleaned(documents, Clean(max_unreadable=0.019), Counts()))
    assert str(caught.value) == (
        "a.txt:101: not JSON: EOF (unreadable: 2 of 100 rows, over "
        "corpora.clean.max_unreadable = 0.019; mend them, or raise it to drop them)"
    )


def test_what_a_text_draws_follows_from_the_text_alone() -> None:
    """The very values: others would move texts between the splits of existing models."""
    assert text_key("text 0") == 12015010314566115819
    assert [round(share(number, 17, "split"), 6) for number in range(3)] == [
        0.755688,
        0.710576,
        0.140832,
    ]


def test_what_a_text_draws_differs_by_seed_and_purpose() -> None:
    drawn = {share(5, seed, purpose) for seed in (1, 2) for purpose in ("split", "pretraining")}
    assert len(drawn) == 4
    assert all(0 <= value < 1 for value in drawn)
