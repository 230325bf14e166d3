"""A cleaned text with where each of its characters comes from, so that a span of it can be shown in
the text as it was given, and a span of that one found in it.

Each step of `normalize` is followed by what it replaces. What ftfy mends is followed byte by byte
where it decodes anew, and by what differs where it does something else.
"""

import bisect
import collections
import dataclasses
import difflib
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import regex

from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.invisible import CONTROL, NEEDED_OR_NOT, SOMETIMES
from trainers.corpora.cleaning.rules import (
    LONGEST_MENDED,
    MOJIBAKE,
    MOST_MARKS,
    TOO_MANY_MARKS,
    is_boilerplate,
)

COMBINES = regex.compile(r"\p{NFC_Quick_Check=Maybe}")
"""A character that may become one with what stands before it."""
SPACES = re.compile(r"\s+")
MOST_COMPARED = 1 << 20
"""Pairs of characters: of longer pieces that differ, each is one replacement of the other."""

Form = Literal["NFC", "NFKC"]


class Edit(NamedTuple):
    """Characters of a text, and what stands in their place."""

    begin: int
    end: int
    new: str


@dataclasses.dataclass(frozen=True)
class Aligned:
    """A text that was made of another. Both lists of places never fall."""

    text: str
    begins: Sequence[int]
    """Of each character, where the part of the original begins that it stands for."""
    ends: Sequence[int]
    """Of each character, where that part ends."""

    @classmethod
    def of(cls, text: str) -> "Aligned":
        """A text of which nothing has been made yet."""
        return cls(text, range(len(text)), range(1, len(text) + 1))

    def in_original(self, start: int, end: int) -> tuple[int, int]:
        """What a span of the text, which is not empty, stands for."""
        return self.begins[start], self.ends[end - 1]

    def in_text(self, start: int, end: int) -> tuple[int, int] | None:
        """What has become of a span of the original; None if nothing is left of it. What stands for
        a part of it counts as a whole."""
        first = bisect.bisect_right(self.ends, start)
        last = bisect.bisect_left(self.begins, end)
        return (first, last) if first < last else None

    def edited(self, edits: Iterable[Edit]) -> "Aligned":
        """With the replacements, which are in order and do not overlap."""
        parts: list[str] = []
        begins: list[int] = []
        ends: list[int] = []
        done = 0
        for begin, end, new in edits:
            parts += (self.text[done:begin], new)
            begins += self.begins[done:begin]
            ends += self.ends[done:begin]
            if new:
                first, last = self._replaced(begin, end)
                begins += [first] * len(new)
                ends += [last] * len(new)
            done = end
        if not parts:
            return self
        parts.append(self.text[done:])
        begins += self.begins[done:]
        ends += self.ends[done:]
        return Aligned("".join(parts), begins, ends)

    def then(self, next_: "Aligned") -> "Aligned":
        """What was made of this text, with its places in this one's original."""
        spans = [self._replaced(*span) for span in zip(next_.begins, next_.ends, strict=True)]
        return Aligned(next_.text, [begin for begin, _ in spans], [end for _, end in spans])

    def _replaced(self, begin: int, end: int) -> tuple[int, int]:
        """The original of what stands in the place of a span. What is put between two characters
        has none, and is empty there."""
        last = self.ends[end - 1] if end else 0
        first = self.begins[begin] if begin < len(self.begins) else last
        return first, max(first, last)


def aligned(text: str, clean: Clean, masked: collections.Counter[str] | None = None) -> Aligned:
    """`normalize(text, clean)`, step by step the same, and where its characters come from."""
    counts: collections.Counter[str] = collections.Counter() if masked is None else masked
    found = Aligned.of(text)
    while True:
        if clean.mojibake:
            found = _mended(found)
        found = _in_normal_form(found, clean.unicode)
        visible = _without_controls(found)
        if visible.text != found.text:
            visible = _in_normal_form(visible, clean.unicode)
        found = visible.edited(_spaces(visible.text))
        if clean.mask:
            found = _masked(found, clean, counts)
        if clean.boilerplate:
            found = found.edited(_boilerplate(found.text))
        if not clean.mojibake or _mended(found).text == found.text:
            return found


def _in_normal_form(found: Aligned, form: Form) -> Aligned:
    if found.text.isascii():
        return found
    found = _without_piles(found)
    normal = found.edited(_normal(found.text, form))
    return found if normal.text == found.text else _without_piles(normal)


def _without_piles(found: Aligned) -> Aligned:
    if len(found.text) <= MOST_MARKS:
        return found
    matches = TOO_MANY_MARKS.finditer(found.text)
    return found.edited(Edit(match.end(1), match.end(), "") for match in matches)


def _normal(text: str, form: Form) -> Iterator[Edit]:
    """A character that does not become one with what stands before it begins a piece, which is
    normalized alone."""
    if unicodedata.is_normalized(form, text):
        return
    begins = [place for place, one in enumerate(text) if not place or _stands_alone(one, form)]
    pieces = [
        Edit(begin, end, unicodedata.normalize(form, text[begin:end]))
        for begin, end in itertools.pairwise([*begins, len(text)])
    ]
    whole = unicodedata.normalize(form, text)
    if "".join(piece.new for piece in pieces) != whole:
        # Python and `regex` know other versions of Unicode.
        yield from _differing(text, whole)
        return
    yield from (piece for piece in pieces if piece.new != text[piece.begin : piece.end])


@functools.lru_cache(maxsize=1 << 14)
def _stands_alone(character: str, form: Form) -> bool:
    first = unicodedata.normalize("NFKD" if form == "NFKC" else "NFD", character)[0]
    return not unicodedata.combining(first) and not COMBINES.match(first)


def _without_controls(found: Aligned) -> Aligned:
    found = found.edited(Edit(*match.span(), "") for match in CONTROL.finditer(found.text))
    if found.text.isascii() or not SOMETIMES.search(found.text):
        return found
    matches = NEEDED_OR_NOT.finditer(found.text)
    return found.edited(
        Edit(match.start(), match.end(), "") for match in matches if not match.group(1)
    )


def _spaces(text: str) -> Iterator[Edit]:
    """White space is a single space or line break, and none at the edges."""
    for match in SPACES.finditer(text):
        begin, end = match.span()
        new = "" if begin == 0 or end == len(text) else "\n" if "\n" in match[0] else " "
        if new != match[0]:
            yield Edit(begin, end, new)


def _masked(found: Aligned, clean: Clean, masked: collections.Counter[str]) -> Aligned:
    from trainers.corpora.cleaning import privacy

    while True:
        less = found
        for name, kind in privacy.chosen(clean.mask):
            matches = privacy.valid(kind, less.text)
            masked.update({name: len(matches)} if matches else ())
            less = less.edited(Edit(*match.span(), kind.mask) for match in matches)
        if less.text == found.text:
            return found
        found = _in_normal_form(less, clean.unicode)


def _boilerplate(text: str) -> Iterator[Edit]:
    """Lines with the line break before them, or behind them where all before them are dropped."""
    begin, any_stays = 0, False
    for line in text.split("\n"):
        end = begin + len(line)
        if not is_boilerplate(line):
            any_stays = True
        elif any_stays:
            yield Edit(begin - 1, end, "")
        else:
            yield Edit(begin, min(end + 1, len(text)), "")
        begin = end + 1


def _mended(found: Aligned) -> Aligned:
    """Line by line, as `normalize` does it."""
    text = found.text
    if text.isascii() or not MOJIBAKE.search(text):
        return found
    lines = text.split("\n")
    mended = [
        _mended_line(line) if len(line) <= LONGEST_MENDED and MOJIBAKE.search(line) else None
        for line in lines
    ]
    if not any(mended):
        return found
    begins: list[int] = []
    ends: list[int] = []
    start = 0
    for line, new in zip(lines, mended, strict=True):
        each = new or Aligned.of(line)
        begins += [start + begin for begin in each.begins]
        ends += [start + end for end in each.ends]
        start += len(line) + 1
        begins.append(start - 1)  # the line break
        ends.append(start)
    joined = "\n".join(new.text if new else line for line, new in zip(lines, mended, strict=True))
    return found.then(Aligned(joined, begins[:-1], ends[:-1]))


def _mended_line(line: str) -> Aligned | None:
    """None if nothing is to be mended."""
    import ftfy

    mended, steps = ftfy.fix_encoding_and_explain(line)
    if mended == line:
        return None
    found = Aligned.of(line)
    plan = steps or []
    while [step.action for step in plan[:2]] == ["encode", "decode"]:
        encode, decode, *plan = plan
        found = found.edited(_decoded(found.text, encode.parameter, decode.parameter))
    return found.edited(_differing(found.text, mended))


def _decoded(text: str, encoding: str, decoding: str) -> Iterator[Edit]:
    """What becomes of a text whose characters are bytes of another encoding."""
    new = text.encode(encoding).decode(decoding)
    is_utf8 = decoding.startswith("utf-8")
    sizes = [len(one.encode("utf-8", "surrogatepass")) if is_utf8 else 1 for one in new]
    if sum(sizes) != len(text):  # as where a pair of surrogates is decoded as one character
        yield from _differing(text, new)
        return
    begin = 0
    for one, size in zip(new, sizes, strict=True):
        if text[begin : begin + size] != one:
            yield Edit(begin, begin + size, one)
        begin += size


def _differing(old: str, new: str) -> Iterator[Edit]:
    """Replacements that make one text of another, of which nothing else is known."""
    if old == new:
        return
    most = min(len(old), len(new))
    start = next((place for place in range(most) if old[place] != new[place]), most)
    same = itertools.takewhile(
        lambda place: old[-place - 1] == new[-place - 1], range(most - start)
    )
    behind = sum(1 for _ in same)
    old_end, new_end = len(old) - behind, len(new) - behind
    if (old_end - start) * (new_end - start) > MOST_COMPARED:
        yield Edit(start, old_end, new[start:new_end])
        return
    matcher = difflib.SequenceMatcher(None, old[start:old_end], new[start:new_end], autojunk=False)
    for kind, begin, end, new_begin, to in matcher.get_opcodes():
        if kind != "equal":
            yield Edit(start + begin, start + end, new[start + new_begin : start + to])
