"""What a text is made of, for rules that count: characters of Chinese, Japanese and Korean stand
for themselves, all else comes in words."""

import re

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Inside the brackets of a pattern, as CJK."""
CJK = f"\u3040-\u30ff{HAN}\uac00-\ud7af"
"""Kana, Han and Hangul."""
LETTER = re.compile(r"[^\W\d_]")
IS_CJK = re.compile(f"[{CJK}]")
WORD = re.compile(rf"[^\W_{CJK}]+")
UNIT = re.compile(f"{IS_CJK.pattern}|{WORD.pattern}")


def units(text: str) -> list[str]:
    """The CJK characters and words of a text, in order, without punctuation."""
    return UNIT.findall(text)


def is_cjk(text: str) -> bool:
    """Whether most of a text's units are CJK characters."""
    return not text.isascii() and len(IS_CJK.findall(text)) > len(WORD.findall(text))
