"""What shares a long passage with an evaluation text is found; what shares a phrase is not."""

import pytest

from trainers.corpora.duplicates.contamination import Passages, boilerplate

TEST = "这本书的内容很充实，印刷也不错，就是送货慢了一些，等了整整一个星期。"
ENGLISH = "The battery lasts for two days, but the screen scratches far too easily for its price."


def quoting(held_out: list[str], texts: list[str]) -> list[int]:
    """Which of the training texts quote."""
    passages = Passages.of(held_out)
    hits = passages.hits(texts, range(len(texts)))
    common = boilerplate(passages.documents_with(hits), len(texts))
    return passages.quoting(hits, common).tolist()


def is_quote(held_out: list[str], text: str) -> bool:
    return quoting(held_out, [text]) == [0]


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
    assert is_quote([TEST, ENGLISH], text)


@pytest.mark.parametrize(
    "text",
    ["印刷也不错，送货也快。", "这本书的内容很充实", "The battery lasts for two days.", "", "！"],
)
def test_a_shared_phrase_is_none(text: str) -> None:
    assert not is_quote([TEST, ENGLISH], text)


def test_quotes_in_a_text_of_another_script_are_found() -> None:
    page = f"{ENGLISH} A reader from Chengdu added: {TEST} {ENGLISH} And so on, page after page."
    assert is_quote([TEST], page)
    assert is_quote([ENGLISH], f"{TEST * 5} {ENGLISH}")


def test_short_evaluation_texts_have_no_passages() -> None:
    assert not Passages.of(["很好", "ok"])
    assert not is_quote(["很好"], "很好"), "equal texts are dropped by their keys"
    assert not Passages.of([])


GREETING = "Hello, thank you for calling the support team of the Northside store. "
FOOTER = "。此致敬礼，北方商店客户服务部全体同事敬上。"


@pytest.mark.parametrize(
    "texts",
    [
        [f"{GREETING}{letter}{number * 7919}" for number in range(30) for letter in "abcdefghij"],
        [f"第{number * 7919}单{word}{FOOTER}" for number in range(30) for word in "很好坏慢快"],
        [
            f"{number * 7919}{word}{FOOTER * (number % 2)}"
            for number in range(60)
            for word in "好坏"
        ],
    ],
    ids=["greeting", "footer", "half"],
)
def test_boilerplate_is_no_quote(texts: list[str]) -> None:
    """marin-community/marin#7126. Nor is its end with what happens to stand beside it."""
    held_out = texts[::10]
    train = [text for text in texts if text not in held_out]
    assert quoting(held_out, train) == []
    held_out[0] += TEST
    assert quoting(held_out, [*train, train[0] + TEST[:20]]) == [len(train)]


def test_what_few_training_texts_share_is_a_quote() -> None:
    others = [f"text {number}" for number in range(100)]
    assert quoting([TEST], [TEST] * 10 + others) == [*range(10)]
    assert quoting([TEST], [TEST] * 11 + others) == []


def test_among_few_documents_boilerplate_is_in_more_than_half() -> None:
    assert quoting([TEST], [TEST, TEST]) == [0, 1]
    assert quoting([TEST], [TEST] * 3 + ["other"] * 3) == [0, 1, 2]
    assert quoting([TEST], [TEST] * 4 + ["other"] * 2) == []
