"""Words as a text, and texts with tags as words."""

import pytest

from trainers.corpora.reading.formats.rows import Problem, Row
from trainers.corpora.reading.formats.sentences import joined, tagged


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["EU", "rejects", "German", "call", "."], "EU rejects German call ."),
        (["我", "爱", "北京"], "我爱北京"),
        (["在", "１９９８年", "，", "他", "说", "：", "“", "好", "”"], "在１９９８年，他说：“好”"),
        (["他", "说", "Windows", "95", "很", "好"], "他说Windows 95很好"),
        (["报道", "——", "“", "新", "世纪", "”"], "报道——“新世纪”"),
        (["……", "……"], "…………"),
        (["She", "said", "“", "no", "”"], "She said “ no ”"),
        (["나는", "서울", "에"], "나는 서울 에"),
        (["今", "天", "1", "9", "O", "K"], "今天19OK"),
        (["New York", " ", "is"], "New York is"),
        (["a", "", "b"], "a b"),
        (["\U0001f469\u200d\U0001f680", "flies"], "\U0001f469\u200d\U0001f680 flies"),
        ([], ""),
    ],
)
def test_words_are_joined_as_their_writing_does(words: list[str], text: str) -> None:
    found, starts = joined(words)
    assert found == text
    for word, start in zip(words, starts, strict=True):
        assert found[start : start + len(word)] == word


def test_tagged_texts_have_words_and_tags() -> None:
    rows = [
        Row("a:1", {"text": "江/nr  泽民/nr 1/2/m /w", "id": 1}),
        Row("a:2", {"text": "迈向 充满/v 希望/"}),
        Row("a:3", None, Problem("broken")),
        Row("a:4", {"text": None}),
    ]
    first, second, *others = tagged(iter(rows), "text")
    assert first.columns == {
        "text": "江泽民1/2", "id": 1, "tokens": ["江", "泽民", "1/2"], "tags": ["nr", "nr", "m"]
    }  # fmt: skip
    assert second.columns == {
        "text": "迈向充满希望/",
        "tokens": ["迈向", "充满", "希望/"],
        "tags": Problem("a word without a tag", "'迈向'"),
    }
    assert others == rows[2:]
