"""What shares a long passage with an evaluation text is found; what shares a phrase is not."""

import pytest

from trainers.corpora.duplicates.contamination import Passages

TEST = "这本书的内容很充实，印刷也不错，就是送货慢了一些，等了整整一个星期。"
ENGLISH = "The battery lasts for two days, but the screen scratches far too easily for its price."


@pytest.mark.parametrize(
    "text",
    [
        TEST,
        f"昨天看到一条评论：“{TEST}”大家怎么看？",
        "他说,就是送货慢了一些 等了整整一个星期!后来退货了。",
        ENGLISH.upper(),
        f"As one buyer wrote: {ENGLISH[:70]}... I agree.",
    ],
)
def test_a_document_with_a_passage_is_contaminated(text: str) -> None:
    assert Passages.of([TEST, ENGLISH]).are_in(text)


@pytest.mark.parametrize(
    "text",
    ["印刷也不错，送货也快。", "这本书的内容很充实", "The battery lasts for two days.", "", "！"],
)
def test_a_shared_phrase_is_none(text: str) -> None:
    assert not Passages.of([TEST, ENGLISH]).are_in(text)


def test_quotes_in_a_text_of_another_script_are_found() -> None:
    page = f"{ENGLISH} A reader from Chengdu added: {TEST} {ENGLISH} And so on, page after page."
    assert Passages.of([TEST]).are_in(page)
    assert Passages.of([ENGLISH]).are_in(f"{TEST * 5} {ENGLISH}")


def test_short_evaluation_texts_have_no_passages() -> None:
    assert not Passages.of(["很好", "ok"])
    assert not Passages.of(["很好"]).are_in("很好"), "equal texts are dropped by their keys"
    assert not Passages.of([])
