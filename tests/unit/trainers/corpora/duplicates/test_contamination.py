"""What shares a long passage with an evaluation text is found; what shares a phrase is not."""

import pytest

from trainers.corpora.duplicates.contamination import is_contaminated, passages

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
    assert is_contaminated(text, passages([TEST, ENGLISH]))


@pytest.mark.parametrize(
    "text",
    ["印刷也不错，送货也快。", "这本书的内容很充实", "The battery lasts for two days.", "", "！"],
)
def test_a_shared_phrase_is_none(text: str) -> None:
    assert not is_contaminated(text, passages([TEST, ENGLISH]))


def test_short_evaluation_texts_have_no_passages() -> None:
    assert len(passages(["很好", "ok"])) == 0
    assert not is_contaminated("很好", passages(["很好"])), "equal texts are dropped by their keys"
    assert len(passages([])) == 0
