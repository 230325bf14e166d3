"""Mask personal data: what could reach or name one person is replaced by its kind.

Patterns for mainland China and for international forms. A number that has a check digit counts only
if that is right, so that order numbers stay.
"""

import collections
import ipaddress
import re
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from stdnum import luhn
from stdnum.cn import ric

# Expressions that begin with few characters, and only then look behind, are looked for far quicker.
EMAIL = re.compile(
    r"(?<![A-Za-z0-9_.+-])[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}@"
    r"(?:[A-Za-z0-9-]{1,63}\.){1,16}[A-Za-z]{2,24}"
)
NUMBER = re.compile(r"\d(?:[ .()—-]{0,3}\d){4}")
"""In whatever is a number of a person, a card or an address, and far quicker to look for."""
PHONE = re.compile(
    r"[+(\d](?<![\d.].)(?:"
    r"(?:(?<=\+)86[ -]?1|(?<=0)086[ -]?1|(?<=8)6[ -]?1|(?<=1))[3-9]\d"  # Chinese mobile
    r"(?:[ —-]?\d{4}[ —-]?\d{4}|\.\d{4}\.\d{4})"
    r"|(?:(?<=\()0|(?<=0))(?:10|2\d|[3-9]\d{2})\)?[ -]?[2-8]\d{6,7}"  # Chinese landline
    r"|(?<=4)00[ -]?\d{3}[ -]?\d{4}"  # Chinese service number
    r"|(?<=\+)[1-9]\d{0,2}(?:[ .-]?\(?\d{2,4}\)?){2,4}"  # international, E.164
    r"|(?:(?<=\()[2-9]|(?<=[2-9]))\d{2}\)?[ .-][2-9]\d{2}[.-]\d{4}"  # North American
    r")(?!\.?\d|元(?![旦宵月]))"  # sums in yuan are none
)
CHINESE_ID = re.compile(r"[1-9](?<!\d.)\d{16}[\dXx](?!\d)")
SOCIAL_SECURITY = re.compile(
    r"[0-8](?<![\d-].)\d\d(?<!000)(?<!666)-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])"
)
BANK_CARD = re.compile(
    r"\d(?<![A-Za-z\d.-].)(?:\d{12,18}|\d{3}(?:([ -])\d{4})(?:\1\d{4}){2}(?:\1\d{3})?"
    r"|\d{3}([ -])\d{6}\2\d{5}|\d{5} \d{13})(?![A-Za-z\d]|[.-]\d)"
)
"""In one piece or in the groups that are printed on cards."""
ISSUER = re.compile(
    r"62\d{14,17}|955[89]\d{12,15}"  # UnionPay, and Chinese cards before it
    r"|4\d{12}(?:\d{3}){0,2}"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}|35(?:2[89]|[3-8]\d)\d{12}|(?:6011|64[4-9]\d|65\d\d)\d{12}"  # others
)
PASSPORT = re.compile(
    r"[DEGPS](?<![A-Za-z\d].)(?:(?<=[EG])\d|(?<=E)[A-HJ-NP-Z]|(?<=[DPS])E)\d{7}(?![A-Za-z\d]|[.-]\d)"
)
"""Chinese ones: ordinary, diplomatic, public affairs, service."""
PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
LICENSE_PLATE = re.compile(
    rf"[{PROVINCES}](?!GB\d)[A-HJ-NP-Z][·•.\- ]?"  # a new GB12345 is a standard
    r"(?=(?:[A-HJ-NP-Z]{0,2}\d){3})[A-HJ-NP-Z\d]{4}(?:[A-HJ-NP-Z\d]{1,2}|[挂学警港澳])(?![A-Za-z\d])"
)
"""Of mainland China (GA 36-2018), those of electric cars a place longer; three digits at least."""
PROVINCE_AND_CITY = re.compile(f"[A-HJ-NP-Z](?<=[{PROVINCES}].)")
IPV4 = re.compile(r"\d(?<![\d.].)\d{0,2}(?:\.\d{1,3}){3}(?!\d|\.\d|-[A-Za-z])")
IPV6 = re.compile(
    r"[23](?<![\w:.].)[\dA-Fa-f]{3}:(?:[\dA-Fa-f]{0,4}:){1,6}[\dA-Fa-f]{0,4}(?![\w:])"
)


def is_card(written: str) -> bool:
    digits = written.replace(" ", "").replace("-", "")
    return ISSUER.fullmatch(digits) is not None and luhn.is_valid(digits)


def is_public(written: str) -> bool:
    """Addresses of private networks and of documentation are those of nobody."""
    try:
        return ipaddress.ip_address(written).is_global
    except ValueError:  # a time, or a number over 255
        return False


def is_public_ipv4(written: str) -> bool:
    """Without a number of three digits, as 98 % have, it is rather a version or a section."""
    return any(len(number) == 3 for number in written.split(".")) and is_public(written)


class Kind(NamedTuple):
    mask: str
    pattern: re.Pattern[str]
    is_valid: Callable[[str], bool] = bool
    needs: re.Pattern[str] = NUMBER
    """What is in every text that has the pattern, and quicker to look for."""


# Longer numbers first: their digits hold what looks like a phone number.
KINDS: dict[str, tuple[Kind, ...]] = {
    "id_number": (Kind("<ID>", CHINESE_ID, ric.is_valid), Kind("<ID>", SOCIAL_SECURITY)),
    "bank_card": (Kind("<CARD>", BANK_CARD, is_card),),
    "passport": (Kind("<PASSPORT>", PASSPORT),),
    "license_plate": (Kind("<PLATE>", LICENSE_PLATE, needs=PROVINCE_AND_CITY),),
    "email": (Kind("<EMAIL>", EMAIL, needs=re.compile("@")),),
    "ipv4": (Kind("<IP>", IPV4, is_public_ipv4),),
    "ipv6": (Kind("<IP>", IPV6, is_public, needs=re.compile(":")),),
    "phone": (Kind("<PHONE>", PHONE),),
}


def chosen(kinds: Collection[str]) -> Iterator[tuple[str, Kind]]:
    """What is masked for these kinds, with their names, in order."""
    for name, patterns in KINDS.items():
        if name in kinds:
            yield from ((name, kind) for kind in patterns)


def mask(text: str, kinds: Collection[str], masked: collections.Counter[str]) -> str:
    """The text with personal data of these kinds replaced; `masked` counts them by kind."""
    has_number = NUMBER.search(text) is not None
    for name, kind in chosen(kinds):
        may_have = has_number if kind.needs is NUMBER else kind.needs.search(text)
        if may_have:
            text, count = _replaced(text, kind)
            masked.update({name: count} if count else ())
    return text


def valid(kind: Kind, text: str) -> list[re.Match[str]]:
    """What `mask` replaces of a kind."""
    if not kind.needs.search(text):
        return []
    return [match for match in kind.pattern.finditer(text) if kind.is_valid(match.group())]


def _replaced(text: str, kind: Kind) -> tuple[str, int]:
    """The text without what has the pattern and is valid, and how many those were."""
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        is_valid = kind.is_valid(match.group())
        count += is_valid
        return kind.mask if is_valid else match.group()

    return kind.pattern.sub(replace, text), count
