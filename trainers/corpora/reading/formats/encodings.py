"""Files in other encodings than UTF-8: read as UTF-8, so that the readers of lines know one."""

import codecs
import io
from typing import Any

import pyarrow as pa

from trainers.corpora.reading.formats.rows import Problem

MARKS = {  # those of UTF-32 begin with those of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
LIKELY = ["gb18030", "big5", "cp932", "euc_jp", "cp949", "cp1252", "cp1251", "utf_8"]
LIKELY += ["utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be"]
"""What a file may be in, in Python's names. Of all that charset-normalizer knows, it often takes a
rare relative of these."""
SAMPLE_BYTES = 1 << 16
PIECE_BYTES = 1 << 20
UNDECODABLE = "raymill.undecodable"
codecs.register_error(UNDECODABLE, lambda error: ("\udcff", error.end))  # type: ignore[attr-defined]
"""What cannot be decoded becomes what UTF-8 does not allow: it is one row's fault, not a file's."""


def is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def marked(head: bytes) -> str | None:
    """The encoding that the byte order mark at the beginning of a file says, but for UTF-8."""
    return next((name for mark, name in MARKS.items() if head.startswith(mark)), None)


def as_utf8(
    stream: io.BufferedReader, encoding: str | None, is_whole: bool = True
) -> tuple[io.BufferedReader, Problem, bytes]:
    """A file's content in UTF-8, what to tell of a row that is not in its encoding, and a sample of
    the content. `encoding` is what the recipe says; `is_whole`, that the stream is at the file's
    beginning."""
    sample = stream.peek(SAMPLE_BYTES)[:SAMPLE_BYTES]
    if is_whole:
        encoding = encoding or marked(sample)
    else:
        sample = sample[sample.find(b"\n") + 1 :]
    encoding = encoding or "utf-8"
    problem = _undecodable(sample, encoding)
    if is_utf8(encoding):
        return stream, problem, sample
    decoder = codecs.getincrementaldecoder(encoding)(UNDECODABLE)

    def recoded(piece: Any) -> bytes:
        return decoder.decode(bytes(piece), final=not piece).encode("utf-8", "surrogatepass")

    content: Any = pa.TransformInputStream(pa.PythonFile(stream, "r"), recoded)
    text = io.BufferedReader(content, PIECE_BYTES)
    return text, problem, text.peek(SAMPLE_BYTES)[:SAMPLE_BYTES]


def _undecodable(sample: bytes, encoding: str) -> Problem:
    """What to tell of rows that are not in the encoding that a file should have: with advice, if
    most lines are not, of those of which one can tell."""
    reason = f"not {'UTF-8' if is_utf8(encoding) else encoding}"
    decoded = codecs.getincrementaldecoder(encoding)(UNDECODABLE).decode(sample)
    lines = [line for line in decoded.split("\n") if not line.isascii()]
    most = 2 * sum("\udcff" in line for line in lines) > len(lines)
    return Problem(reason, advice(sample) if most else "")


def advice(sample: bytes) -> str:
    """How to read a file that begins so. Takes a moment."""
    import charset_normalizer

    if len(sample) == SAMPLE_BYTES:  # cut off, perhaps within a character
        is_wide = 0 in sample
        sample = sample[: -4 if is_wide else sample.rfind(b"\n") + 1 or None]
    matches = charset_normalizer.from_bytes(sample, cp_isolation=LIKELY)
    likely = [match.encoding.replace("_", "-") for match in matches][:2]
    if not likely:
        return "set the source's `encoding`, or convert the file"
    looks = " or ".join(likely)
    return f"it looks like {looks}; set the source's `encoding: {likely[0]}`, or convert the file"


def has_many_zeros(sample: bytes) -> bool:
    """As UTF-16 and UTF-32 have them where letters are Latin, which UTF-8 would not refuse."""
    return sample.count(0) > len(sample) // 10
