"""What a text is made of, for rules that count: characters of Chinese, Japanese and Korean stand
for themselves, all else comes in words."""

import re
from collections.abc import Sequence

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Inside the brackets of a pattern, as CJK."""
CJK = f"\u3040-\u30ff{HAN}\uac00-\ud7af"
"""Kana, Han and Hangul."""
LETTER = re.compile(r"[^\W\d_]")
UNIT = re.compile(rf"[{CJK}]|[^\W_{CJK}]+")
IS_CJK = re.compile(f"[{CJK}]")


def units(text: str) -> list[str]:
    """The CJK characters and words of a text, in order, without punctuation."""
    return UNIT.findall(text)


def is_cjk(found: Sequence[str]) -> bool:
    """Whether most of a text's units are CJK characters."""
    return 2 * sum(1 for unit in found if IS_CJK.match(unit)) > len(found)
