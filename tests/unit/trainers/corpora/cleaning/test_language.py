import pytest

from trainers.corpora.cleaning.language import is_one_of, languages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("这本书写得很好，值得一读", {"zh", "zh-Hans"}),
        ("這本書寫得很好，值得一讀", {"zh", "zh-Hant"}),
        ("很好", {"zh", "zh-Hans", "zh-Hant"}),
        ("电脑很好用，win7系统，i5处理器 intel core", {"zh", "zh-Hans"}),
        ("他喜欢读龍應台的书，觉得很有意思", {"zh", "zh-Hans"}),
        ("日本語のテキストです", {"ja"}),
        ("한국어 책", {"ko"}),
        ("Good book, fast delivery", {"en"}),
        ("GREAT STUFF FOR ME", {"en"}),
        ("C'est la vie, mon ami", {"fr"}),
        ("Это хорошая книга", {"ru"}),
        ("123456 ！！！", set()),
        ("", set()),
    ],
)
def test_the_language_of_a_short_text(text: str, expected: set[str]) -> None:
    assert languages(text) == expected


def test_a_code_for_chinese_covers_its_scripts() -> None:
    assert is_one_of("這本書寫得很好", ["zh"])
    assert not is_one_of("這本書寫得很好", ["zh-Hans", "en"])
    assert is_one_of("很好", ["zh-Hant"]), "both scripts have these characters"
