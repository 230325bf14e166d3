"""An aligned text is the cleaned text, and a span of either is found in the other."""

import collections
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.troublesome import SETTINGS, TEXTS
from trainers.corpora.cleaning import alignment
from trainers.corpora.cleaning.alignment import Aligned, aligned
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.privacy import KINDS
from trainers.corpora.cleaning.rules import normalize

ASTRONAUT = "\U0001f469\u200d\U0001f680"
IDS = ["default", "masked", "everything"]
MASKED = Clean(mask=tuple(KINDS), boilerplate=True)


def cleaned_span(text: str, part: str, clean: Clean) -> str | None:
    """What has become of a part of a text."""
    found, start = aligned(text, clean), text.index(part)
    span = found.in_text(start, start + len(part))
    return None if span is None else found.text[slice(*span)]


def original_span(text: str, part: str, clean: Clean) -> str:
    """What a part of the cleaned text was."""
    found = aligned(text, clean)
    start = found.text.index(part)
    return text[slice(*found.in_original(start, start + len(part)))]


@pytest.mark.parametrize("clean", SETTINGS, ids=IDS)
@settings(max_examples=150)
@given(st.lists(TEXTS, max_size=4).map("\r\n".join))
def test_it_is_the_cleaned_text(clean: Clean, text: str) -> None:
    masked: collections.Counter[str] = collections.Counter()
    expected: collections.Counter[str] = collections.Counter()
    found = aligned(text, clean, masked)
    assert found.text == normalize(text, clean, expected)
    assert masked == expected
    assert len(found.begins) == len(found.ends) == len(found.text)
    assert [*found.begins] == sorted(found.begins)
    assert [*found.ends] == sorted(found.ends)
    for begin, end in zip(found.begins, found.ends, strict=True):
        assert 0 <= begin <= end <= len(text)
        assert begin < end or clean.mojibake, "only what ftfy puts in stands for nothing"


@pytest.mark.parametrize("clean", SETTINGS[:2], ids=IDS[:2])
@settings(max_examples=100)
@given(TEXTS, st.data())
def test_spans_go_there_and_back(clean: Clean, text: str, data: st.DataObject) -> None:
    found = aligned(text, clean)
    if not found.text:
        return
    start = data.draw(st.integers(0, len(found.text) - 1))
    end = data.draw(st.integers(start + 1, len(found.text)))
    original = found.in_original(start, end)
    back = found.in_text(*original)
    assert back is not None
    assert back[0] <= start
    assert back[1] >= end
    first, last = found.in_original(*back)
    assert first <= original[0] < original[1] <= last


@settings(max_examples=50)
@given(st.text(alphabet="很好 ab\u00e9\U0001f600\n", min_size=1).map(lambda text: f"x{text}x"))
def test_a_clean_text_is_its_own_original(text: str) -> None:
    once = normalize(text, Clean())
    found = aligned(once, Clean())
    assert found == Aligned(once, range(len(once)), range(1, len(once) + 1))


@pytest.mark.parametrize(
    ("text", "part", "becomes"),
    [
        ("我爱 \u3000\u200b北京", "北京", "北京"),
        ("\r\n  ＡＢＣ公司，很好", "ＡＢＣ公司", "ABC公司"),
        ("去㈱北京", "㈱", "(株)"),
        ("cafe\u0301 Noe\u0308l", "Noe\u0308l", "Noël"),
        (f"a {ASTRONAUT} b", ASTRONAUT, ASTRONAUT),
        ("张\u200b三 来了", "张\u200b三", "张三"),
        ("one\r\n\r\n two", "one\r\n\r\n two", "one\ntwo"),
        ("e" + "\u0316" * 40 + " Anna", "Anna", "Anna"),
        ("\uff76\uff9e\uff9f 李四", "李四", "李四"),
    ],
)  # fmt: skip
def test_a_span_is_found_after_cleaning_and_back(text: str, part: str, becomes: str) -> None:
    assert cleaned_span(text, part, Clean()) == becomes
    assert original_span(text, becomes, Clean()) == part


def test_of_what_cleaning_removes_nothing_is_left() -> None:
    assert cleaned_span("a\u200b\u00adb", "\u200b\u00ad", Clean()) is None
    assert cleaned_span("a \u200b\u00ad b", "\u200b\u00ad", Clean()) == " ", "of three, one is left"
    text = "李四来了\n版权所有 张三\n王五"
    assert cleaned_span(text, "张三", MASKED) is None
    assert cleaned_span(text, "王五", MASKED) == "王五"
    assert original_span(text, "王五", MASKED) == "王五"
    assert original_span(text, "李四来了\n王五", MASKED) == text


def test_a_mask_stands_for_the_whole_of_what_it_hides() -> None:
    text = "电话１３８１２３４５６７８,张三 a.b@c.com"
    assert aligned(text, MASKED).text == "电话<PHONE>,张三 <EMAIL>"
    assert original_span(text, "<PHONE>", MASKED) == "１３８１２３４５６７８"
    assert original_span(text, "PHO", MASKED) == "１３８１２３４５６７８"
    assert cleaned_span(text, "３８１", MASKED) == "<PHONE>"
    assert original_span(text, "张三", MASKED) == "张三"


MENDED = Clean(mojibake=True)


@pytest.mark.parametrize(
    ("text", "part", "was"),
    [
        ("å¾ˆå¥½ Anna", "好", "å¥½"),
        ("å¾ˆå¥½ Anna", "Anna", "Anna"),
        ("first Anna\nå¾ˆå¥½\nlast", "last", "last"),
        ("first Anna\nå¾ˆå¥½\nlast", "很", "å¾ˆ"),
        # Decoded wrongly twice.
        ("Ã¥Â¾Ë†Ã¥Â¥Â½ Anna", "很", "Ã¥Â¾Ë†"),
        # ftfy puts a byte back that had become a space, so that bytes and characters differ.
        ("voilÃ  le travail Ã  Anna", "Anna", "Anna"),
    ],
)
def test_mojibake_is_followed(text: str, part: str, was: str) -> None:
    assert original_span(text, part, MENDED) == was


def test_what_nothing_is_known_of_is_followed_by_what_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if Python joined characters of which `regex` does not know that they join."""
    monkeypatch.setattr(alignment, "_stands_alone", lambda character, form: True)
    text = "cafe\u0301 Noe\u0308l 张三"
    found = aligned(text, Clean())
    assert found.text == unicodedata.normalize("NFKC", text)
    assert original_span(text, "张三", Clean()) == "张三"
    monkeypatch.setattr(alignment, "MOST_COMPARED", 0)
    assert aligned(text, Clean()).text == found.text
    assert original_span(text, "张三", Clean()) == "张三"
