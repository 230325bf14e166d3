import re
from typing import Any

import pytest

from tests.unit.trainers.corpora.report.reading import Read
from trainers.scoring.figures import compared, details, with_intervals
from trainers.scoring.report import ERRORS, answer, evaluation_page
from trainers.scoring.text import number, p_text
from trainers.tasks.classify.spec import Classify

TASK = Classify()
ID = "evaluation/demo-evaluate-00"


def records(every: int) -> list[dict[str, Any]]:
    """Of 200 rows every so many are wrong."""
    return [
        {
            "row": row,
            "id": str(row),
            "gold": "好" if row % 2 else "差",
            "prediction": ("差" if row % 2 else "好") if row % every == 0 else "差好"[row % 2],
            "score": 0.5 + row / 400,
            "tokens": 5 + row % 20,
            "truncated": row % 50 == 0,
            "group": None,
            "characters": row,
            "shop": "茶馆" if row < 120 else "书店",
            "text": f"第{row}条评论" + "。" * (500 if row == 199 else 1),
        }
        for row in range(200)
    ]


@pytest.fixture
def evaluation() -> dict[str, Any]:
    own, baseline = records(10), records(4)
    test, *_ = compared(TASK, own, baseline)
    seeds = {"pretrained": {"values": [0.9, 0.92], "mean": 0.91, "half_width_95": 0.02}}
    return {
        "test": with_intervals(TASK, own),
        **details(TASK, own),
        "ngram": with_intervals(TASK, baseline),
        "against": {"ngram": test},
        "seeds": seeds,
    }


def page_of(evaluation: dict[str, Any], subject: str = "test") -> str:
    return evaluation_page(TASK, evaluation, records(10), ID, subject, "model/x on its test split")


def test_the_headline_stands_beside_its_baselines(evaluation: dict[str, Any]) -> None:
    page = Read(page_of(evaluation))
    low, high = evaluation["test"]["intervals"]["accuracy"]
    assert f"0.9000 [{low:.4f}, {high:.4f}]" in page.text
    assert f"{low:.4f} to {high:.4f}" in page.text
    for text in ("this model", "ngram", "pretrained, 2 seeds", "0.9100 [0.8900, 0.9300]"):
        assert text in page.text
    assert "Against ngram, on the same 200 rows" in page.text
    assert "4 (2.0%)" in page.text, "texts cut"
    assert "Evaluation of model/x on its test split" in page.text


def test_every_part_is_there(evaluation: dict[str, Any]) -> None:
    page = Read(page_of(evaluation))
    for title in ("Figures", "How sure it is", "Confusion", "Slices", "What it read"):
        assert title in page.text.splitlines()
    for name in ("By shop", "茶馆", "书店", "By characters", "0 to 39", "By label"):
        assert name in page.text
    assert page.tags.count("svg") == 3
    assert not {"script", "img", "link"}.intersection(page.tags)


def test_errors_are_shown_with_their_texts_the_surest_first(evaluation: dict[str, Any]) -> None:
    read = Read(page_of(evaluation))
    texts = [cell for cell in read.cells if re.fullmatch(r"第\d+条评论。.*", cell)]
    assert texts == [f"第{row}条评论。" for row in range(190, -1, -10)]
    assert len(texts) <= ERRORS


def test_a_long_text_is_cut_and_says_so(evaluation: dict[str, Any]) -> None:
    own = records(10)
    own[199]["prediction"] = "差"
    page = evaluation_page(TASK, evaluation, own, ID, "test", "model/x on its test split")
    assert "… (107 more characters)" in page


def test_pictures_have_no_chinese_text(evaluation: dict[str, Any]) -> None:
    for svg in re.findall(r"<svg.*?</svg>", page_of(evaluation), re.DOTALL):
        assert svg.isascii() or not re.search(r"[\u4e00-\u9fff]", svg)


def test_what_became_of_a_files_rows_is_told(evaluation: dict[str, Any]) -> None:
    evaluation["data"] = evaluation.pop("test")
    del evaluation["against"], evaluation["seeds"]
    evaluation["rows"] = {
        "read": 220,
        "kept": 200,
        "dropped": {"two labels": 20},
        "unknown_labels": {"平": 3},
        "trained_on": 7,
    }
    text = Read(page_of(evaluation, "data")).text
    for part in ("220 rows read", "two labels", "平", "7 of the rows are among those that"):
        assert part in text


def test_a_model_that_is_always_right_has_a_page() -> None:
    own = [{**record, "prediction": record["gold"], "score": 1.0} for record in records(10)]
    evaluation = {"test": with_intervals(TASK, own), **details(TASK, own)}
    assert "1.0000 [1.0000, 1.0000]" in evaluation_page(
        TASK, evaluation, own, ID, "test", "model/x on its test split"
    )


def test_answers_are_written_as_people_read_them() -> None:
    assert answer("好", "") == "好"
    assert answer(["a", "b"], "") == "a, b"
    assert answer([], "") == "none"
    assert answer([{"start": 0, "end": 2, "label": "PER"}], "张三来了") == "PER 张三"


def test_numbers_are_written_with_their_intervals() -> None:
    assert number(0.5, [0.25, 0.75]) == "0.5000 [0.2500, 0.7500]"
    assert number(0.5, [-0.25, 0.75], "+") == "+0.5000 [-0.2500, +0.7500]"
    assert number(0.5, None) == "0.5000"
    assert (p_text(0.03), p_text(1e-6)) == ("0.0300", "< 0.0001")
