"""Sentences that come as words: CoNLL's lines, and `word/TAG`. As texts they are joined as their
writing joins words."""

import itertools
import re
from collections.abc import Sequence

from trainers.corpora.cleaning.units import HAN, is_cjk, units
from trainers.corpora.reading.formats.rows import Problem, Rows

TOKENS, TAGS = "tokens", "tags"
"""Columns of such a sentence, besides its text."""
SOLID = re.compile(f"[\u3000-\u30ff{HAN}\uff01-\uff9f\uffe0-\uffe6]")
"""Han, kana, and punctuation of their width, beside which no space stands. Korean has spaces."""
SOLID_IN_CJK = re.compile(f"{SOLID.pattern}|[\u00b7\u2013\u2014\u2018\u2019\u201c\u201d\u2026]")
"""Also the quotes and dashes that Latin writing shares."""

IN_CONLL = re.compile(r"-DOCSTART-.*|\S+([ \t].*)?[ \t](O|[BIMELSU][-_]\S+)")
WITH_TAG = re.compile(r"\S*/[A-Za-z]{1,9}(-[A-Za-z]+)?")


def joined(words: Sequence[str]) -> tuple[str, list[int]]:
    """The text of a sentence, and where each of its words begins. Words are joined by a space, but
    for CJK; where all words of a CJK sentence are single characters, they are its characters, and
    so are the letters and digits among them."""
    text = "".join(words)
    in_cjk = is_cjk(text) or not units(text)
    if in_cjk and all(len(word) <= 1 for word in words):
        return text, [*itertools.accumulate(map(len, words), initial=0)][: len(words)]
    solid = SOLID_IN_CJK if in_cjk else SOLID
    parts: list[str] = []
    starts: list[int] = []
    length = 0
    before = ""
    for word in words:
        if before and word and not _is_solid(before, solid) and not _is_solid(word[0], solid):
            parts.append(" ")
            length += 1
        starts.append(length)
        parts.append(word)
        length += len(word)
        before = word[-1:] or before
    return "".join(parts), starts


def _is_solid(character: str, solid: re.Pattern[str]) -> bool:
    return character.isspace() or solid.match(character) is not None


def key_for(lines: Sequence[str]) -> str | None:
    """The key of a source by which such lines are read as words with tags; None where they look
    like texts."""
    if lines and all(IN_CONLL.fullmatch(line.strip()) for line in lines):
        return "format: conll"
    words = [word for line in lines for word in line.split()]
    is_tagged = sum(WITH_TAG.fullmatch(word) is not None for word in words) > 0.9 * len(words)
    return "tagged: true" if words and is_tagged else None


def tagged(rows: Rows, column: str) -> Rows:
    """Rows whose column of texts is `word/TAG word/TAG`, with the words as a text there, and as
    `tokens` and `tags` besides."""
    for row in rows:
        written = None if row.columns is None else row.columns.get(column)
        if row.columns is None or not isinstance(written, str):
            yield row
            continue
        tokens, tags = [], []
        untagged: Problem | None = None
        for pair in written.split():
            token, slash, tag = pair.rpartition("/")
            if not tag or not slash:
                untagged = untagged or Problem("a word without a tag", repr(pair))
                token = pair
            if token:  # a tag by itself is of white space
                tokens.append(token)
                tags.append(tag)
        made = {column: joined(tokens)[0], TOKENS: tokens, TAGS: untagged or tags}
        yield row._replace(columns={**row.columns, **made})
