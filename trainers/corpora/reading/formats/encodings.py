"""Files in other encodings than UTF-8: read as UTF-8, so that the readers of lines know one."""

import codecs
import io
from collections.abc import Sequence
from typing import Any

from trainers.corpora.reading.formats.rows import Problem

MARKS = {  # those of UTF-32 begin with those of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
LIKELY = ["gb18030", "big5", "cp932", "euc_jp", "cp949", "cp1252", "cp1251"]
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
    text: Any = io.BufferedReader(_Utf8(stream, encoding), PIECE_BYTES)
    return text, problem, text.peek(SAMPLE_BYTES)[:SAMPLE_BYTES]


class _Utf8(io.RawIOBase):
    """The bytes of a stream, from one encoding to UTF-8."""

    def __init__(self, stream: io.BufferedReader, encoding: str):
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(UNDECODABLE)
        self._ready, self._is_at_end = b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready and not self._is_at_end:
            piece = self._stream.read1(PIECE_BYTES)
            self._is_at_end = not piece
            decoded = self._decoder.decode(piece, final=self._is_at_end)
            self._ready = decoded.encode("utf-8", "surrogatepass")
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


def _undecodable(sample: bytes, encoding: str) -> Problem:
    """What to tell of rows that are not in the encoding that a file should have."""
    told = f"not {'UTF-8' if is_utf8(encoding) else encoding}"
    return Problem(told) if _is_in(sample, encoding) else Problem(told, advice(sample, encoding))


def advice(sample: bytes, encoding: str = "utf-8") -> str:
    """How to read a file that begins so and is in another encoding than this one."""
    likely = _likely(sample, LIKELY if is_utf8(encoding) else [*LIKELY, "utf_8"])
    if not likely:
        return "set the source's `encoding`, or convert the file"
    looks = " or ".join(likely)
    return f"it looks like {looks}; set the source's `encoding: {likely[0]}`, or convert the file"


def has_many_zeros(sample: bytes) -> bool:
    """As UTF-16 and UTF-32 have them where letters are Latin, which UTF-8 would not refuse."""
    return sample.count(0) > len(sample) // 10


def _is_in(sample: bytes, encoding: str) -> bool:
    """Whether most lines are in an encoding, of those of which one can tell."""
    decoder = codecs.getincrementaldecoder(encoding)(UNDECODABLE)
    lines = [line for line in decoder.decode(sample).split("\n") if not line.isascii()]
    return 2 * sum("\udcff" in line for line in lines) <= len(lines)


def _likely(sample: bytes, known: Sequence[str]) -> list[str]:
    """The two likeliest encodings of some bytes at most, the likelier first. Takes a moment."""
    import charset_normalizer

    if len(sample) == SAMPLE_BYTES:  # cut off, perhaps within a character
        is_wide = 0 in sample
        sample = sample[: -4 if is_wide else sample.rfind(b"\n") + 1 or None]
    found = charset_normalizer.from_bytes(sample, cp_isolation=[*known])
    return [match.encoding.replace("_", "-") for match in found][:2]
