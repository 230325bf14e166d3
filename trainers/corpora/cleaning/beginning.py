"""The beginning of a cleaned text, for the price of a beginning: a model reads no more of a text of
megabytes than its first few hundred tokens."""

from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.rules import normalize

MARGIN = 4096
"""Cleaned characters before a cut that what follows may change: combining marks, a line of
boilerplate, and personal data, of which the longest, an address of mail, has some 1,100."""


def beginning(text: str, clean: Clean, characters: int) -> tuple[str, bool]:
    """So many of the first characters of `normalize(text, clean)`, or more, and whether these are
    all."""
    taken = characters + 2 * MARGIN
    while taken < len(text):
        # Whether a line is mojibake depends on the whole of it.
        end = text.rfind("\n", 0, taken) + 1 if clean.mojibake else taken
        certain = normalize(text[:end], clean)[:-MARGIN]
        if len(certain) >= characters:
            return certain, False
        taken *= 4
    return normalize(text, clean), True
