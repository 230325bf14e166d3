"""The beginning of a cleaned text, for the price of a beginning: a model reads no more of a text of
megabytes than its first few hundred tokens."""

import re

from trainers.corpora.cleaning.alignment import Aligned, aligned
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.invisible import CONTROL
from trainers.corpora.cleaning.rules import LONGEST_MENDED, normalize

MARGIN = 4096
"""Cleaned characters before a cut that what follows may change: combining marks, a line of
boilerplate, and personal data, of which the longest, an address of mail, has some 1,100."""
PIECE = 1 << 14
"""Characters that are looked through at once."""
RUN = re.compile(rf"[\s{CONTROL.pattern[1:-1]}]{{65,}}|[\u200c\u200d]{{65,}}")
"""Many characters of which cleaning leaves next to nothing."""


def beginning(text: str, clean: Clean, characters: int) -> tuple[str, bool]:
    """So many of the first characters of `normalize(text, clean)`, or more, and whether these are
    all."""
    taken = characters + 2 * MARGIN
    while True:
        if clean.mojibake:
            raw, is_whole = text[:taken], taken >= len(text)
        else:
            raw, is_whole = _without_runs(text, taken)
        if is_whole:
            return normalize(raw, clean), True
        end = len(raw)
        if clean.mojibake and end - raw.rfind("\n") <= LONGEST_MENDED:
            end = raw.rfind("\n") + 1  # whether a line is mojibake depends on the whole of it
        certain = normalize(raw[:end], clean)[:-MARGIN]
        if len(certain) >= characters:
            return certain, False
        taken *= 4


def aligned_beginning(text: str, clean: Clean, begins: str) -> Aligned:
    """Where the characters of a text's clean beginning come from, and perhaps of more."""
    taken = len(begins) + 2 * MARGIN
    while True:
        found = aligned(text[:taken], clean)
        if taken >= len(text) or found.text[:-MARGIN].startswith(begins):
            return found
        taken *= 4


def _without_runs(text: str, characters: int) -> tuple[str, bool]:
    """So many of the first characters or more, with short runs in place of long ones, and whether
    these are all. In pieces: between them other threads have their turn."""
    pieces: list[str] = []
    found = 0
    for start in range(0, len(text), PIECE):
        if found >= characters:
            return "".join(pieces), False
        pieces.append(RUN.sub(_shortened, text[start : start + PIECE]))
        found += len(pieces[-1])
    return "".join(pieces), True


def _shortened(run: re.Match[str]) -> str:
    """What becomes the same as the run when it is cleaned."""
    if run[0].strip("\u200c\u200d") == "":
        return run[0][:32] + run[0][-32:]
    spaces = "".join(filter(str.isspace, run[0]))
    return "\n" if "\n" in spaces else spaces[:1] or run[0][0]
