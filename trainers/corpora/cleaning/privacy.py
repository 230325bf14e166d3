"""Mask personal data: what could reach or name one person is replaced by its kind.

Patterns for mainland China and for international forms. An identity number counts only if its
check digit is right, so that order numbers stay.
"""

import collections
import re
from collections.abc import Callable, Collection

from stdnum.cn import ric

MASKS = {"email": "<EMAIL>", "phone": "<PHONE>", "id_number": "<ID>"}

EMAIL = re.compile(
    r"(?<![A-Za-z0-9_.+-])[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}"
)
NUMBER = re.compile(r"\d(?:[ .()-]{0,3}\d){4}")
"""In whatever is a phone or identity number, and far quicker to look for."""
PHONE = re.compile(
    r"(?<![\d.])(?:"
    r"(?:(?:\+|00)86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}"  # Chinese mobile
    r"|\(?0(?:10|2\d|[3-9]\d{2})\)?[ -]?[2-8]\d{6,7}"  # Chinese landline
    r"|400[ -]?\d{3}[ -]?\d{4}"  # Chinese service number
    r"|\+[1-9]\d{0,2}(?:[ .-]?\(?\d{2,4}\)?){2,4}"  # international, E.164
    r"|\(?[2-9]\d{2}\)?[ .-][2-9]\d{2}[.-]\d{4}"  # North American
    r")(?!\.?\d)"
)
CHINESE_ID = re.compile(r"(?<!\d)[1-9]\d{16}[\dXx](?!\d)")
SOCIAL_SECURITY = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")


def mask(text: str, kinds: Collection[str], masked: collections.Counter[str]) -> str:
    """The text with personal data of these kinds replaced; `masked` counts them by kind."""
    for kind, find in FINDERS.items():
        if kind in kinds:
            text, count = find(text)
            if count:
                masked[kind] += count
    return text


def _email(text: str) -> tuple[str, int]:
    return EMAIL.subn(MASKS["email"], text) if "@" in text else (text, 0)


def _phone(text: str) -> tuple[str, int]:
    return PHONE.subn(MASKS["phone"], text) if NUMBER.search(text) else (text, 0)


def _id_number(text: str) -> tuple[str, int]:
    if not NUMBER.search(text):
        return text, 0
    found = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal found
        if not ric.is_valid(match.group()):
            return match.group()
        found += 1
        return MASKS["id_number"]

    text = CHINESE_ID.sub(replace, text)
    text, further = SOCIAL_SECURITY.subn(MASKS["id_number"], text)
    return text, found + further


# Identity numbers first: their digits hold what looks like a phone number.
FINDERS: dict[str, Callable[[str], tuple[str, int]]] = {
    "id_number": _id_number,
    "email": _email,
    "phone": _phone,
}
