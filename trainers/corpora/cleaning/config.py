"""How the recipe has documents cleaned: `corpora.clean`."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from cluster.recipe.section import Section


class Repetition(Section):
    """Largest shares of a document that repeat themselves (Rae et al. 2021, table A1). An n-gram is
    of words, or of twice as many CJK characters; documents of under 50 of either have none."""

    max_duplicate_lines: float = Field(default=0.3, ge=0, le=1)
    """Of the lines, those that stood before."""
    max_duplicate_line_characters: float = Field(default=0.2, ge=0, le=1)
    max_top_ngrams: tuple[float, float, float] = (0.2, 0.18, 0.16)
    """Of the characters, what the most frequent 2-, 3- and 4-gram takes."""
    max_duplicate_ngrams: float = Field(default=0.15, ge=0, le=1)
    """Of the characters, what lies in 5-grams that stood before."""
    max_character_run: int = Field(default=50, ge=2)
    """The longest run of one character."""


class Quality(Section):
    """Rules for running text from the web: Gopher's (Rae et al. 2021, section A.1.1) and C4's
    (Raffel et al. 2020, section 2.2), with Chinese stop words, punctuation and lengths. A word is a
    word, or a CJK character."""

    min_words: int = Field(default=50, ge=0)
    max_words: int = Field(default=100_000, ge=1)
    mean_word_length: tuple[float, float] = (3.0, 10.0)
    """In characters; texts of CJK characters are not asked."""
    max_symbols: float = Field(default=0.1, ge=0)
    """`#` and ellipses a word."""
    max_digits: float = Field(default=0.3, ge=0, le=1)
    """Of the characters."""
    max_punctuation: float = Field(default=0.4, ge=0, le=1)
    """Of the characters, what is neither letter nor digit nor space."""
    max_bullet_lines: float = Field(default=0.9, ge=0, le=1)
    max_ellipsis_lines: float = Field(default=0.3, ge=0, le=1)
    min_terminated_lines: float = Field(default=0.12, ge=0, le=1)
    """Of the lines, those that end in a punctuation mark (FineWeb's limit)."""
    min_alphabetic_words: float = Field(default=0.8, ge=0, le=1)
    """Of the words, those with a letter or a CJK character."""
    min_stop_words: int = Field(default=2, ge=0)
    """Different ones, which running text has."""


def _known_code(code: str) -> str:
    if not re.fullmatch(r"zh-Hans|zh-Hant|[a-z]{2,3}", code):
        raise ValueError(
            f"{code!r} is no code of a language here; such are zh-Hans, zh-Hant, zh, en"
        )
    return code


PersonalData = Literal[
    "email", "phone", "id_number", "bank_card", "passport", "license_plate", "ipv4", "ipv6"
]


class Clean(Section):
    """Steps of cleaning. `repetition`, `quality` and `languages` choose what pretraining reads;
    labelled documents are only normalized and masked, since they are what a task is."""

    mojibake: bool = False
    """Mends text that was decoded with a wrong encoding, by ftfy: `å¾ˆå¥½` to `很好`."""
    unicode: Literal["NFC", "NFKC"] = "NFKC"
    """Normal form of every text, and of what a tokenizer reads that is trained on them. NFKC also
    makes full-width letters, digits and punctuation half-width, as `，` to `,`; for a model that
    writes take NFC, as large language models have it or none."""
    boilerplate: bool = False
    """Drops lines that are navigation, copyright, cookie and script notices, in Chinese and
    English."""
    mask: tuple[PersonalData, ...] = ()
    """Personal data to replace by its kind, as in `<PHONE>`; Chinese and international forms. Bank
    cards and identity numbers count if their check digits are right, passports and license plates
    are those of mainland China, addresses those of the public internet."""
    min_characters: int = Field(default=2, ge=1)
    max_characters: int = Field(default=100_000, ge=1)
    languages: tuple[Annotated[str, AfterValidator(_known_code)], ...] | None = Field(
        default=None, min_length=1
    )
    """Codes to keep: `zh-Hans` (simplified Chinese), `zh-Hant`, `zh` (both), else ISO 639's, such
    as `en`."""
    repetition: Repetition | None = None
    quality: Quality | None = None
    max_unreadable: float = Field(default=0.01, ge=0, le=1)
    """Rows that cannot be read (not UTF-8, broken, without their text or label, over 16 MiB) are
    dropped and counted by reason; more than this share of a file, or of 64 MiB of a larger one, is
    refused."""


OF_PRETRAINING = {"languages": None, "repetition": None, "quality": None}
"""Of cleaning, the steps that labelled documents do not go through."""


def of_examples(clean: Clean) -> Clean:
    """The steps that labelled documents go through, and the texts that an endpoint is asked."""
    return clean.model_copy(update=OF_PRETRAINING)
