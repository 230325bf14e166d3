"""Texts that cleaning has trouble with, and the settings that it has it under."""

from hypothesis import strategies as st

from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.privacy import KINDS

EVERYTHING = Clean(mojibake=True, boilerplate=True, mask=tuple(KINDS))
SETTINGS = [Clean(), Clean(unicode="NFC", boilerplate=True, mask=tuple(KINDS)), EVERYTHING]
TROUBLE = [
    *"很好 ,.-1aA>\n\t\r\u3000\u00a0\u200b\u00ad\x07\x85\u2028",
    *("\u0301", "\u0338", "\u0316", "\u0344", "\u309b", "\u30ab", "\uff76", "\uff9e", "\u00a8"),
    *("\u200c", "\u200d", "\U000e0062", "\u2122", "\u24c2", "\U0001f469", "\U0001f3fd", "\ufe0f"),
    *("\u0915", "\u094d", "\u0646", "\ufe8e", "\ufe70", "\u0627", "\u0653", "\ufdfa"),
    *("\u1100", "\u1161", "\u11a8", "\uac00", "Ａ", "１", "①", "å¾ˆå¥½", "Ã", "¤", "\x80", "â€™"),
    *("13812345678", "138 1234 5678", "138.", "1234.5678", "010-88886666", "元", "旦", "(415) "),
    *("a.b@c.com.cn", "@c.", "11010519491231002X", "6222021234567890128", "E12345678"),
    *("京A12345", "学", "114.114.114.114", "2400:3200:baba::1", "<PHONE>", "IP"),
    *("版权所有", "点击这里", "click here", "\n上一篇\n", " " * 50, "字" * 78, "\u0301" * 40),
]
TEXTS = st.lists(st.one_of(st.sampled_from(TROUBLE), st.characters(codec="utf-8"))).map("".join)
