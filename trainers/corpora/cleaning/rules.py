"""Clean one document: mend and normalize its text, then say whether it stays.

`normalize` applies to every document, `mend` to the messages of a conversation, `refusal` to what
pretraining reads. Pure.
"""

import collections
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal

import regex

from trainers.corpora.cleaning import language
from trainers.corpora.cleaning.config import Clean, Quality, Repetition
from trainers.corpora.cleaning.invisible import without_controls
from trainers.corpora.cleaning.units import LETTER, is_cjk, units

BOILERPLATE = re.compile(
    r"javascript|lorem ipsum|all rights reserved|terms of (?:use|service)|privacy policy"
    r"|use of cookies|uses cookies|accept (?:all )?cookies|skip to (?:main )?content"
    r"|\b(?:click here|sign in|log in|share this)\b|©|copyright \d{4}"
    r"|版权所有|未经授权|请勿转载|转载请注明|免责声明|隐私政策|用户协议|联系我们|关于我们"
    r"|[京沪粤浙苏]icp[备证]|点击(?:这里|此处|进入|查看)|扫码关注|扫描二维码|关注公众号|上一篇|下一篇"
    r"|返回(?:顶部|首页)|当前位置|责任编辑|登录.{0,3}注册|分享到"
)
"""In small letters: twice as fast as a pattern that ignores case."""
MOJIBAKE = re.compile("[\x80-\u2fff\uf8ff-\ufeff\ufff0-\uffff]")
"""Characters of which there is one, at least, in a line that was read in a wrong encoding; looked
for in a fiftieth of the time that ftfy takes."""
LONGEST_MENDED = 1 << 16
"""Characters of a line: a longer one stays as it is, so that its beginning can be cleaned alone."""
MOST_MARKS = 30
"""Combining marks behind a character (Unicode Standard Annex 15, section 13, Stream-Safe Text). No
writing has more, and to order them takes the square of their number."""
MARK = r"[\p{M}\uff9e\uff9f]"
TOO_MANY_MARKS = regex.compile(rf"({MARK}{{{MOST_MARKS}}}){MARK}+")
LONGEST_BOILERPLATE = 80
"""Characters: a longer line only speaks of such things."""
BULLETS = tuple("-*•●·○■□▪►▶★☆◆◇")
ELLIPSES = ("...", "…", "。。。")
SYMBOLS = re.compile(r"#|\.{3}|…|。{3}")
TERMINATED = re.compile(r"[.!?。！？…;；:：\"”'’」』)）>]$")
STOP_WORDS = frozenset(
    {"the", "be", "to", "of", "and", "that", "have", "with"} | set("的了是在和有不我这他也就人为")
)
WORDS_OF_A_DOCUMENT = 50
"""A shorter one says too little about how it repeats itself."""


def normalize(text: str, clean: Clean, masked: collections.Counter[str] | None = None) -> str:
    """The text, mended, in normal form, without what nobody sees, boilerplate and personal data.
    White space is a single space or line break. `masked` counts personal data by kind.

    What is normalized stays as it is. Each line becomes what it becomes alone, and a character
    decides only about what stands near it (`beginning`), but for `mojibake`, which is of a line.
    Each step has its like in alignment.py.
    """
    counts: collections.Counter[str] = collections.Counter() if masked is None else masked
    while True:
        text = _visible(text, clean)
        text = "\n".join(filter(None, (" ".join(line.split()) for line in text.split("\n"))))
        if clean.mask:
            text = _masked(text, clean, counts)
        if clean.boilerplate:
            text = "\n".join(line for line in text.split("\n") if not is_boilerplate(line))
        if not clean.mojibake or _without_mojibake(text) == text:
            return text


def mend(text: str, clean: Clean, masked: collections.Counter[str] | None = None) -> str:
    """A text whose layout and signs are part of what it says, such as code, a table or a formula in
    a conversation. Of the steps of `normalize` it takes those that leave these as they are: what
    nobody sees goes, and so do mojibake and personal data where `clean` says so. White space stays,
    but a line ends in a line feed; no line is boilerplate; and the normal form is NFC whatever
    `clean.unicode` is, since NFKC makes `x²` to `x2` and `，` to `,`."""
    counts: collections.Counter[str] = collections.Counter() if masked is None else masked
    clean = clean.model_copy(update={"unicode": "NFC"})
    text = _visible(text.replace("\r\n", "\n").replace("\r", "\n"), clean)
    return _masked(text, clean, counts) if clean.mask else text


def _visible(text: str, clean: Clean) -> str:
    """In normal form, without what nobody sees, and mended if so told."""
    if clean.mojibake:
        text = _without_mojibake(text)
    text = _in_normal_form(text, clean.unicode)
    visible = without_controls(text)
    # What stood apart may combine now.
    return text if visible == text else _in_normal_form(visible, clean.unicode)


def _in_normal_form(text: str, form: Literal["NFC", "NFKC"]) -> str:
    if text.isascii():
        return text
    text = _without_piles(text)
    normal = unicodedata.normalize(form, text)
    return text if normal == text else _without_piles(normal)  # characters may become marks


def _without_piles(text: str) -> str:
    """With no more combining marks behind a character than MOST_MARKS."""
    return TOO_MANY_MARKS.sub(r"\1", text) if len(text) > MOST_MARKS else text


def _masked(text: str, clean: Clean, masked: collections.Counter[str]) -> str:
    """Until nothing is left to mask: behind one mask there may begin what was no number before."""
    from trainers.corpora.cleaning import privacy  # takes a moment, as few recipes need

    while (less := privacy.mask(text, clean.mask, masked)) != text:
        # An accent may have come to stand behind the mask.
        text = _in_normal_form(less, clean.unicode)
    return text


def _without_mojibake(text: str) -> str:
    """The text with each line as it was written, in an encoding that it was not read in."""
    if text.isascii() or not MOJIBAKE.search(text):
        return text
    import ftfy

    lines = text.split("\n")
    for place, line in enumerate(lines):
        if len(line) <= LONGEST_MENDED and MOJIBAKE.search(line):
            lines[place] = ftfy.fix_encoding(line)
    return "\n".join(lines)


def is_boilerplate(line: str) -> bool:
    return len(line) <= LONGEST_BOILERPLATE and BOILERPLATE.search(line.lower()) is not None


def too_short_or_long(text: str, clean: Clean) -> str | None:
    """Why a normalized text is dropped whatever it is for, or None."""
    if len(text) < clean.min_characters:
        return "too short"
    if len(text) > clean.max_characters:
        return "too long"
    return None


def refusal(text: str, clean: Clean) -> str | None:
    """Why pretraining does not read a normalized text, or None: the first reason that is found."""
    return next(_refusals(text, clean), None)


def _refusals(text: str, clean: Clean) -> Iterator[str]:
    size = too_short_or_long(text, clean)
    if size is not None:
        yield size
    if clean.languages is not None and not language.is_one_of(text, clean.languages):
        yield "other language"
    if clean.quality is None and clean.repetition is None:
        return
    words, lines = units(text), text.split("\n")
    if clean.quality is not None:
        yield from _low_quality(text, words, lines, clean.quality)
    if clean.repetition is not None:
        yield from _repetitions(text, words, lines, clean.repetition)


def _low_quality(
    text: str, words: Sequence[str], lines: Sequence[str], limits: Quality
) -> Iterator[str]:
    if len(words) < max(limits.min_words, 1):
        yield "few words"
        return
    if len(words) > limits.max_words:
        yield "many words"
    shortest, longest = limits.mean_word_length
    if not is_cjk(text) and not shortest <= sum(map(len, words)) / len(words) <= longest:
        yield "word length"
    if len(SYMBOLS.findall(text)) > limits.max_symbols * len(words):
        yield "symbols"
    if sum(c.isdigit() for c in text) > limits.max_digits * len(text):
        yield "digits"
    if sum(not c.isalnum() and not c.isspace() for c in text) > limits.max_punctuation * len(text):
        yield "punctuation"
    if sum(line.startswith(BULLETS) for line in lines) > limits.max_bullet_lines * len(lines):
        yield "bullet lines"
    if sum(line.endswith(ELLIPSES) for line in lines) > limits.max_ellipsis_lines * len(lines):
        yield "ellipsis lines"
    ended = sum(TERMINATED.search(line) is not None for line in lines)
    if ended < limits.min_terminated_lines * len(lines):
        yield "unfinished lines"
    if sum(bool(LETTER.search(word)) for word in words) < limits.min_alphabetic_words * len(words):
        yield "few letters"
    if len(STOP_WORDS.intersection(word.lower() for word in words)) < limits.min_stop_words:
        yield "few stop words"


def _repetitions(
    text: str, words: Sequence[str], lines: Sequence[str], limits: Repetition
) -> Iterator[str]:
    if re.search(rf"(\S)\1{{{limits.max_character_run}}}", text):
        yield "repeated character"
    repeated = len(lines) - len(set(lines))
    characters = len(text) - sum(map(len, set(lines))) - (len(lines) - 1)
    if repeated > limits.max_duplicate_lines * len(lines) or (
        characters > limits.max_duplicate_line_characters * len(text)
    ):
        yield "repeated lines"
    if len(words) < WORDS_OF_A_DOCUMENT:
        return
    total, scale = sum(map(len, words)), 2 if is_cjk(text) else 1
    for size, limit in zip((2, 3, 4), limits.max_top_ngrams, strict=True):
        if top_ngram_characters(words, scale * size) > limit * total:
            yield "repeated phrase"
    if duplicate_ngram_characters(words, scale * 5) > limits.max_duplicate_ngrams * total:
        yield "repeated passages"


def _ngrams(words: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(size)), strict=False)


def top_ngram_characters(words: Sequence[str], size: int) -> int:
    """Characters of all occurrences of the most frequent n-gram that occurs more than once."""
    counts = collections.Counter(_ngrams(words, size))
    most = max(counts.values(), default=0)
    if most < 2:
        return 0
    return max(sum(map(len, gram)) for gram, count in counts.items() if count == most) * most


def duplicate_ngram_characters(words: Sequence[str], size: int) -> int:
    """Characters of words that lie in an n-gram which stood before; each word counts once."""
    seen: set[tuple[str, ...]] = set()
    total = covered = 0
    for start, gram in enumerate(_ngrams(words, size)):
        if gram in seen:
            total += sum(map(len, words[max(start, covered) : start + size]))
            covered = start + size
        seen.add(gram)
    return total
