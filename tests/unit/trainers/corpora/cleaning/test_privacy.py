from collections import Counter
from typing import get_args

import pytest

from trainers.corpora.cleaning.config import PersonalData
from trainers.corpora.cleaning.privacy import KINDS, mask


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("联系我 13812345678 或 010-88886666", "联系我 <PHONE> 或 <PHONE>"),
        ("电话:138 1234 5678,+86-139-1234-5678", "电话:<PHONE>,+86-139-1234-5678"),
        ("13812345678元旦 13812345678元宵节", "<PHONE>元旦 <PHONE>元宵节"),
        ("8613812345678、138.1234.5678或138—1234—5678", "<PHONE>、<PHONE>或<PHONE>"),
        ("0755-23456789 400-800-8888", "<PHONE> <PHONE>"),
        ("call +1 415 555 2671 or (415) 555-2671", "call <PHONE> or <PHONE>"),
        ("身份证11010519491231002X号", "身份证<ID>号"),
        ("SSN 123-45-6789", "SSN <ID>"),
        ("写信到 a.b@c.com.cn!", "写信到 <EMAIL>!"),
        ("写信到a_b+c@example.org。", "写信到<EMAIL>。"),
        ("卡号6222021234567890128,请转账", "卡号<CARD>,请转账"),
        ("卡号:6222 0212 3456 7890 128", "卡号:<CARD>"),
        ("旧卡 9558801234567890128", "旧卡 <CARD>"),
        ("Visa 4111-1111-1111-1111, Amex 3782 822463 10005", "Visa <CARD>, Amex <CARD>"),
        ("护照E12345678,换发后EB1234567", "护照<PASSPORT>,换发后<PASSPORT>"),
        ("passport no. G12345678.", "passport no. <PASSPORT>."),
        ("车号粤A.H7477和琼A-45153", "车号<PLATE>和<PLATE>"),
        ("沪AD12345、京B·1234学", "<PLATE>、<PLATE>"),
        ("来自 114.114.114.114 的请求", "来自 <IP> 的请求"),
        ("from 2400:3200:baba::1, port 80", "from <IP>, port 80"),
    ],
)
def test_personal_data_is_masked(text: str, expected: str) -> None:
    expected = expected.replace("+86-139-1234-5678", "<PHONE>")
    masked: Counter[str] = Counter()
    assert mask(text, KINDS, masked) == expected
    assert masked.total() == expected.count("<")


@pytest.mark.parametrize(
    "text",
    [
        "订单号 110105194912310021",
        "价格1380元 2024-11-24 12:30",
        "价格4001234567元, 共13812345678元, 1500000.0000 美元, 东经139.69171234",
        "圆周率3.14159265358979",
        "IP 192.168.100.200",
        "产量 12345678901 吨, 第 400 页",
        "@名人 的微博",
        "ISBN 978-7-02-000220-7",
        "I S B N : 9787111054252",
        "卡号6222021234567890127",
        "1213·962·0931796423202",
        "10.1023/A:1010933404324",
        "web/20080221202153/",
        "天津SOS儿童村, 和小黑X61、黑S10E, 正在刷新BIOS",
        "新GB12345标准",
        "河北2.00.40.8 5.10.102.1-microsoft 7.4.7.1. Tukey",
        "127.0.0.1 10.1.200.3 999.1.1.1",
        "at 12:30:45 in 2024: std::vector 2001:db8::1 2024:11:24",
        "E1234567890 SE12345678 XE12345678 E12345678.5",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert mask(text, KINDS, Counter()) == text


def test_only_what_the_recipe_names_is_masked() -> None:
    assert mask("a@b.cn 13812345678", ["email"], Counter()) == "<EMAIL> 13812345678"


def test_every_kind_that_a_recipe_may_name_is_found() -> None:
    assert set(KINDS) == set(get_args(PersonalData))
