from collections import Counter

import pytest

from trainers.corpora.cleaning.privacy import FINDERS, mask


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("联系我 13812345678 或 010-88886666", "联系我 <PHONE> 或 <PHONE>"),
        ("电话:138 1234 5678,+86-139-1234-5678", "电话:<PHONE>,+86-139-1234-5678"),
        ("0755-23456789 400-800-8888", "<PHONE> <PHONE>"),
        ("call +1 415 555 2671 or (415) 555-2671", "call <PHONE> or <PHONE>"),
        ("身份证11010519491231002X号", "身份证<ID>号"),
        ("SSN 123-45-6789", "SSN <ID>"),
        ("写信到 a.b@c.com.cn!", "写信到 <EMAIL>!"),
        ("写信到a_b+c@example.org。", "写信到<EMAIL>。"),
    ],
)
def test_personal_data_is_masked(text: str, expected: str) -> None:
    expected = expected.replace("+86-139-1234-5678", "<PHONE>")
    masked: Counter[str] = Counter()
    assert mask(text, FINDERS, masked) == expected
    assert masked.total() == expected.count("<")


@pytest.mark.parametrize(
    "text",
    [
        "订单号 110105194912310021",
        "价格1380元 2024-11-24 12:30",
        "圆周率3.14159265358979",
        "IP 192.168.100.200",
        "产量 12345678901 吨, 第 400 页",
        "@名人 的微博",
        "ISBN 978-7-02-000220-7",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert mask(text, FINDERS, Counter()) == text


def test_only_what_the_recipe_names_is_masked() -> None:
    assert mask("a@b.cn 13812345678", ["email"], Counter()) == "<EMAIL> 13812345678"
