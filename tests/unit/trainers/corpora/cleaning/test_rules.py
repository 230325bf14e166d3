"""Each step of cleaning by itself: what it mends, what it drops, what it leaves."""

import random
import re
import unicodedata

import pytest
from ftfy.badness import BADNESS_RE

from trainers.corpora.cleaning.config import Clean, Quality, Repetition
from trainers.corpora.cleaning.rules import MOJIBAKE, mend, normalize, refusal

NEWS = (
    "新华社北京一月一日电 中共中央总书记、国家主席发表新年讲话。他说,过去的一年,"
    "我们在改革和发展中取得了新的成就,人民的生活继续改善。\n"
    "会议指出,要坚持以经济建设为中心,不断提高对外开放的水平,这是我们的长期方针。"
)
ENGLISH = (
    "The committee met on Monday to discuss the budget of the city, and it decided that most of "
    "the money should go to schools. Members have argued with each other for weeks about roads.\n"
    "A vote is expected to be held in March, when the mayor returns from her visit to the coast "
    "and the council has heard what people in the districts think of this plan."
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  two\t words \r\n", "two words"),
        ("ＡＢＣ１２３，", "ABC123,"),
        ("cafe\u0301", "café"),
        ("bell\x07 and\x00 null", "bell and null"),
        ("a\x1fb\x85c\x9fd", "a b cd"),
        ("全角\u3000空格\u00a0", "全角 空格"),
        ("one \n\n  two\r\nthree", "one\ntwo\nthree"),
        (" \n\t ", ""),
        ("e\x07\u0301", "é"),
    ],
)
def test_texts_are_normalized(text: str, expected: str) -> None:
    assert normalize(text, Clean()) == expected
    assert normalize(expected, Clean()) == expected, "once is enough"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  two\t words \n\n  - ＡＢＣ，x² \n", "  two\t words \n\n  - ＡＢＣ，x² \n"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("cafe\u0301", "café"),
        ("bell\x07, e\x07\u0301 and\u200b nothing", "bell, é and nothing"),
        ("privacy policy", "privacy policy"),
        ("å¾ˆå¥½\n\n  ann@example.org", "很好\n\n  <EMAIL>"),
    ],
)
def test_messages_are_mended_and_keep_layout_and_signs(text: str, expected: str) -> None:
    clean = Clean(unicode="NFKC", mojibake=True, boilerplate=True, mask=("email",))
    assert mend(text, clean) == expected
    assert mend(expected, clean) == expected


def test_nfc_keeps_full_width_characters() -> None:
    assert normalize("ＡＢＣ，cafe\u0301", Clean(unicode="NFC")) == "ＡＢＣ，café"


def test_mojibake_is_mended_where_the_recipe_says_so() -> None:
    assert normalize("å¾ˆå¥½", Clean(mojibake=True)) == "很好"
    assert normalize("å¾ˆå¥½", Clean(unicode="NFC")) == "å¾ˆå¥½"
    assert normalize(NEWS, Clean(mojibake=True)) == NEWS
    assert normalize(f"{NEWS}\nå¾ˆå¥½", Clean(mojibake=True)) == f"{NEWS}\n很好"


def test_a_masked_text_is_in_normal_form_too() -> None:
    masked = normalize("13812345678\u0338", Clean(mask=["phone"]))
    assert masked == unicodedata.normalize("NFKC", masked) == "<PHONE≯"


def test_what_ftfy_takes_for_mojibake_is_looked_at() -> None:
    assert all(one.isascii() or MOJIBAKE.search(one) for one in BADNESS_RE.pattern)


@pytest.mark.parametrize(
    "line",
    [
        "版权所有 © 2019 某某网",
        "Please enable JavaScript to view this page.",
        "点击这里查看更多",
        "京ICP备12345678号",
        "We use cookies. Accept all cookies",
    ],
)
def test_boilerplate_lines_go(line: str) -> None:
    assert normalize(f"{NEWS}\n{line}\n好。", Clean(boilerplate=True)) == f"{NEWS}\n好。"
    assert line[:3] in normalize(f"{NEWS}\n{line}", Clean())


def test_a_long_line_that_speaks_of_boilerplate_stays() -> None:
    line = "他在文章里写道,许多网站的页面下方都有版权所有的字样," * 4
    assert normalize(line, Clean(boilerplate=True)) == line


@pytest.mark.parametrize(
    ("length", "reason"), [(1, "too short"), (2, None), (5, None), (6, "too long")]
)
def test_texts_outside_the_bounds_are_refused(length: int, reason: str | None) -> None:
    assert refusal("字" * length, Clean(min_characters=2, max_characters=5)) == reason


def test_running_text_passes_every_rule() -> None:
    clean = Clean(languages=("zh-Hans", "en"), quality=Quality(), repetition=Repetition())
    for text in (NEWS, ENGLISH):
        assert refusal(normalize(text, clean), clean) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("很好", "few words"),
        ("supercalifragilistic incomprehensibilities " * 30, "word length"),
        (ENGLISH.replace(" ", " # "), "symbols"),
        ("1998 01 23 4567 8901 " * 20, "digits"),
        (NEWS.replace("的", "的" + "！？、～" * 5), "punctuation"),
        ("\n".join(f"- {line}" for line in re.split(r"\.\s", ENGLISH)), "bullet lines"),
        ("\n".join(f"{line}..." for line in ENGLISH.split(", ")), "ellipsis lines"),
        (ENGLISH.replace(".", "").replace(" ", "\n"), "unfinished lines"),
        (NEWS + " 12" * 30, "few letters"),
        ("甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉戌亥" * 3 + "。", "few stop words"),
    ],
)
def test_each_rule_of_quality_drops_what_it_is_for(text: str, reason: str) -> None:
    limits = {"max_digits": 1.0} if reason == "few letters" else {}
    if reason == "ellipsis lines":
        limits["max_symbols"] = 1.0
    assert refusal(text, Clean(quality=Quality(**limits))) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (NEWS + "哈" * 60, "repeated character"),
        ("\n".join([NEWS.split("\n")[0]] * 3), "repeated lines"),
        (NEWS + "质量好" * 30, "repeated phrase"),
        (NEWS + ENGLISH + NEWS.replace("\n", ""), "repeated passages"),
    ],
)
def test_each_rule_of_repetition_drops_what_it_is_for(text: str, reason: str) -> None:
    assert refusal(text, Clean(repetition=Repetition())) == reason


def test_a_short_text_may_repeat_itself() -> None:
    assert refusal("好好好,真的很好很好很好", Clean(repetition=Repetition())) is None


def test_cleaning_is_deterministic_and_never_fails() -> None:
    drawn = random.Random(17)
    clean = Clean(
        mojibake=True,
        boilerplate=True,
        mask=("email", "phone", "id_number"),
        languages=("zh",),
        repetition=Repetition(),
        quality=Quality(),
    )
    for _ in range(300):
        text = "".join(chr(drawn.choice((drawn.randrange(32, 127), drawn.randrange(0xD7FF)))) 
                       for _ in range(drawn.randrange(200)))  # fmt: skip
        once = normalize(text, clean)
        assert once == normalize(text, clean)
        assert refusal(once, clean) == refusal(once, clean)
