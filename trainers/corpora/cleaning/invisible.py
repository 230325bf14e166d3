"""Characters that nobody sees: control characters, zero-width ones, and those that turn the
direction of writing. They make equal texts unequal, hide words from rules, and text from people.

Joiners and tags stay where a script or an emoji needs them.
"""

import re

import regex

CONTROL = re.compile(
    r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # of the category Cc, what is no white space
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0001]"
)
TAGS = "\U000e0020-\U000e007f"
SOMETIMES = re.compile(f"[\u200c\u200d{TAGS}]")
NEEDED_OR_NOT = regex.compile(
    # Joiners: behind a virama; zero-width non-joiners between letters that join (Unicode Standard
    # Annex 31, section 2.3, A1, A2, B); joiners beside one.
    r"((?<=\p{ccc=Virama}\p{Mn}*)[\u200c\u200d]"
    r"|(?<=[\p{jt=L}\p{jt=D}]\p{jt=T}*)\u200c(?=\p{jt=T}*[\p{jt=R}\p{jt=D}])"
    r"|(?<=[\p{jt=L}\p{jt=D}]\p{jt=T}*)\u200d|\u200d(?=\p{jt=T}*[\p{jt=R}\p{jt=D}])"
    # Sequences of emoji (Unicode Technical Standard 51, section 1.4).
    r"|(?<=\p{Extended_Pictographic}[\p{Emoji_Modifier}\ufe0f]*)\u200d(?=\p{Extended_Pictographic})"
    rf"|(?<=\p{{Extended_Pictographic}}[\p{{Emoji_Modifier}}\ufe0f]*)[{TAGS}]+)"
    rf"|[\u200c\u200d{TAGS}]"
)


def without_controls(text: str) -> str:
    """The text without characters that nobody sees."""
    text = CONTROL.sub("", text)
    if text.isascii() or not SOMETIMES.search(text):
        return text
    return NEEDED_OR_NOT.sub(lambda match: match.group(1) or "", text)
