"""Rows of CoNLL and its like: a sentence is the lines up to a blank one, a word and its tag are the
first and the last column of a line. One sentence is in memory at a time."""

import itertools
import re
from collections.abc import Iterable, Iterator

from trainers.corpora.reading.formats import rows
from trainers.corpora.reading.formats.rows import Problem, Row, Rows, Wanted
from trainers.corpora.reading.formats.sentences import TAGS, TOKENS, joined
from trainers.corpora.reading.formats.text_lines import BYTE_ORDER_MARK, Lines

DOCUMENT = "-DOCSTART-"
"""The word of a line that begins a document, and is none of it."""
MOST_UNDECIDED = 1_000
"""Blocks of lines at the beginning of a file that may all be comments: they are in memory."""
NO_WORDS = Problem("no words", "each line begins with `#`, and no others tell it from a comment")
Block = tuple[str, list[str]]
"""Where it begins, and its lines."""
Shape = tuple[bool, int]
"""Whether tabs are between the columns of a line, and how many there are."""
BLANKS = re.compile("[ \t]+")
"""Between columns where no line has a tab. Other white space may be a word's, as U+3000 is."""


def conll(name: str, lines: Lines, wanted: Wanted) -> Rows:
    """A row for each sentence, with the columns `tokens`, `tags` and `text`."""
    rows.refuse_columns(name, wanted, [TOKENS, TAGS, "text"])
    undecided: list[Block] = []  # at the beginning: comments, or sentences of the word `#`
    shape: Shape | None = None
    for where, sentence in _sentences(lines):
        if sentence is None:
            yield Row(where, None, rows.too_long())
            continue
        try:
            written = [raw.decode() for raw in sentence]
        except UnicodeDecodeError:
            yield Row(where, None, lines.undecodable)
            continue
        shape = next(_shapes(written), shape)
        undecided.append((where, written))
        if shape is not None or len(undecided) > MOST_UNDECIDED:
            yield from _rows(undecided, shape)
            undecided = []
    yield from _rows(undecided, shape)


def _rows(blocks: Iterable[Block], shape: Shape | None) -> Rows:
    for where, written in blocks:
        if shape is None:
            yield Row(where, None, NO_WORDS)
        elif columns := _words(written, shape):
            yield _row(where, columns)


def _sentences(lines: Lines) -> Iterator[tuple[str, list[bytes] | None]]:
    """Where each sentence begins, and its lines: None if they are too many."""
    begin, sentence, size = "", list[bytes](), 0
    for where, raw in lines:
        raw = raw and raw.removeprefix(BYTE_ORDER_MARK)
        if raw is not None and not raw.strip():
            if size:
                yield begin, sentence if size <= rows.MAX_ROW_BYTES else None
            sentence, size = [], 0
            continue
        begin = begin if size else where
        size += rows.MAX_ROW_BYTES + 1 if raw is None else len(raw)
        if raw is not None and size <= rows.MAX_ROW_BYTES:
            sentence.append(raw)
        else:
            sentence = []
    if size:
        yield begin, sentence if size <= rows.MAX_ROW_BYTES else None


def _words(written: list[str], shape: Shape) -> list[list[str]]:
    """The columns of each word. Before the first word there may be comments, as CoNLL-U has them:
    lines that begin with `#`, and are not of the shape that words are."""
    number = sum(1 for _ in itertools.takewhile(lambda line: line.startswith("#"), written))
    words = [line for line in written[:number] if _shape(line) == shape] + written[number:]
    return [columns for columns in map(_columns, words) if columns[0] != DOCUMENT]


def _shapes(written: Iterable[str]) -> Iterator[Shape]:
    """Of the lines that are words for sure."""
    return (_shape(line) for line in written if not line.startswith(("#", DOCUMENT)))


def _shape(line: str) -> Shape:
    return "\t" in line.rstrip(), len(_columns(line))


def _columns(line: str) -> list[str]:
    line = line.rstrip(" \t\r\n")
    return line.split("\t") if "\t" in line else BLANKS.split(line.lstrip(" "))


def _row(where: str, columns: list[list[str]]) -> Row:
    tokens = [line[0] for line in columns]
    bare = next((line for line in columns if len(line) < 2), None)
    tags = [line[-1] for line in columns]
    problem = None if bare is None else Problem("a word without a tag", repr(bare[0]))
    return Row(where, {TOKENS: tokens, TAGS: problem or tags, "text": joined(tokens)[0]})
