"""How names, texts and numbers are written on a page. Pure."""

import unicodedata

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories: control, format, lone surrogate, line and paragraph separator."""
JOINERS = "\u200c\u200d"
"""Invisible, but part of how Persian, Indic scripts and emoji are written."""


def visible(text: str) -> str:
    """The text with what would not be seen, or would reorder or break what stands around it, as
    code points."""

    def shown(character: str) -> str:
        if unicodedata.category(character) in HIDDEN and character not in f"\n{JOINERS}":
            return f"⟨U+{ord(character):04X}⟩"
        return character

    return "".join(map(shown, text))


def one_line(name: str) -> str:
    return visible(name.replace("\n", " "))


def number(count: int) -> str:
    return f"{count:,}"


def share(part: int, whole: int) -> str:
    if not whole:
        return "–"
    return "<0.1%" if 0 < part < whole / 1000 else f"{part / whole:.1%}"


def columns(text: str) -> int:
    """Columns that a text takes: CJK characters are two wide."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, limit: int) -> str:
    """The text in at most so many columns."""
    if columns(text) <= limit:
        return text
    while columns(text) > limit - 1:
        text = text[:-1]
    return f"{text}…"


def short(value: float) -> str:
    """A number in few characters, such as 12k."""
    for power, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= power:
            return f"{value / power:.3g}{unit}"
    return f"{value:.3g}"


def power_of_two(exponent: int) -> str:
    """2 to the power of `exponent`; 16k is 16,384."""
    return f"{2 ** (exponent % 10)}{('', 'k', 'M', 'G', 'T')[exponent // 10]}"


def bit_length(k: int) -> str:
    """The whole numbers of so many bits."""
    low, high = 2 ** (k - 1), 2**k - 1
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
