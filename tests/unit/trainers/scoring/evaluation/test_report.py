import re
from typing import Any

import pytest

from tests.unit.trainers.corpora.report.reading import Read
from trainers.scoring.evaluation.comparison_report import comparison_page
from trainers.scoring.evaluation.figures import (
    compared,
    details,
    sliced,
    tally_of,
    with_intervals,
)
from trainers.scoring.evaluation.report import ERRORS, answer, evaluation_page
from trainers.scoring.evaluation.text import number, p_text
from trainers.tasks.classify.spec import Classify
from trainers.tasks.ner.spec import Ner
from trainers.tasks.writing.likeness import likeness
from trainers.tasks.writing.spec import WritingTask

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
    of_baseline = tally_of(TASK, baseline)
    test, *_ = compared(TASK, own, baseline)
    seeds = {"pretrained": {"values": [0.9, 0.92], "mean": 0.91, "half_width_95": 0.02}}
    return {
        "test": with_intervals(TASK, own, tally_of(TASK, own)),
        **details(own, tally_of(TASK, own)),
        "ngram": {**with_intervals(TASK, baseline, of_baseline), **sliced(baseline, of_baseline)},
        "against": {"ngram": test},
        "seeds": seeds,
    }


def page_of(evaluation: dict[str, Any], subject: str = "test") -> str:
    return evaluation_page(TASK, evaluation, records(10), ID, subject, "model/x on its test split")


def test_the_headline_stands_beside_its_baselines(evaluation: dict[str, Any]) -> None:
    page = Read(page_of(evaluation))
    low, high = evaluation["test"]["intervals"]["accuracy"]
    assert f"0.9000 [{low:.4f}, {high:.4f}]" in page.text
    assert f"95 %: {low:.4f} to {high:.4f}" in page.text
    for text in ("this model", "ngram", "pretrained, 2 seeds", "0.9100 [0.8900, 0.9300]"):
        assert text in page.text
    assert "Against ngram, on the same 200 rows" in page.text
    assert "4 (2.0%)" in page.text, "texts cut"
    assert "Evaluation of model/x on its test split" in page.text


def test_every_part_is_there(evaluation: dict[str, Any]) -> None:
    page = Read(page_of(evaluation))
    for title in ("Figures", "How sure it is", "Confusion", "Slices", "What it read"):
        assert title in page.text.splitlines()
    for name in ("By shop", "茶馆", "书店, ngram", "By characters", "0 to 39", "By label"):
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
        "noted": {"rows without a value of shop": 12},
        "unknown_labels": {"平": 3},
        "trained_on": 7,
    }
    dropped = [{"where": f"a.jsonl:{n}", "reason": "two labels", "text": "左右"} for n in range(20)]
    page = evaluation_page(TASK, evaluation, records(10), ID, "data", "model/x on a.jsonl", dropped)
    text = Read(page).text
    for part in ("220 rows read", "two labels", "平", "7 of the rows are among those that"):
        assert part in text
    for part in ("rows without a value of shop", "20 are in dropped.jsonl", "a.jsonl:19"):
        assert part in text


def test_a_model_that_is_always_right_has_a_page() -> None:
    own = [{**record, "prediction": record["gold"], "score": 1.0} for record in records(10)]
    tally = tally_of(TASK, own)
    evaluation = {"test": with_intervals(TASK, own, tally), **details(own, tally)}
    assert "1.0000 [1.0000, 1.0000]" in evaluation_page(
        TASK, evaluation, own, ID, "test", "model/x on its test split"
    )


def test_answers_are_written_as_people_read_them() -> None:
    assert answer("好") == "好"
    assert answer(["a", "b"]) == "a, b"
    assert answer([]) == "none"


def entities(every: int) -> list[dict[str, Any]]:
    """Records of 200 texts with a person, of which every so many are found two characters long."""
    person = {"start": 0, "end": 3, "label": "person"}
    return [
        {
            **{name: of[name] for name in ("row", "id", "tokens", "truncated", "group")},
            "gold": [person],
            "prediction": [{**person, "end": 2 if of["row"] % every == 0 else 3, "score": 0.9}],
            "text": f"王小明<b>{of['row']}",
        }
        for of in records(every)
    ]


def test_mistakes_of_entities_are_counted_by_kind_and_marked_in_their_texts() -> None:
    task, own = Ner(base="some/model"), entities(10)
    tally = tally_of(task, own)
    evaluation = {"test": with_intervals(task, own, tally), **details(own, tally)}
    page = evaluation_page(task, evaluation, own, ID, "test", "model/x on its test split")
    read = Read(page)
    assert "What goes wrong" in read.text
    (kinds,) = [plot for plot in read.plots if "missed" in plot]
    assert kinds["wrong boundary"] == "20 (10.0%)"
    assert "Mistakes by label" in read.text
    assert '<mark style="--mark: var(--near)">王小</mark>' in page
    assert '<mark style="--mark: var(--kept)">明</mark><small>person wrong boundary (0.90)' in page
    assert "both, with another label or boundary" in read.text
    assert "Entities by score, right on top of wrong" in read.text
    test, *flips = compared(task, own, entities(4))
    comparison = {**test, "model": "model/x", "against": "model/y", "left_out": 0}
    page = comparison_page(task, comparison, own, entities(4), flips, ID)
    assert "As the second reads it" in page
    assert page.count("<mark") == 2 * (len(flips[0]) + len(flips[1]))


@pytest.mark.parametrize(
    ("task", "has_line"),
    [
        (Classify(), True),
        (Ner(base="some/model", max_windows=1), True),
        (Ner(base="some/model"), False),
    ],
)
def test_a_line_is_drawn_where_a_text_is_cut(task: Any, has_line: bool) -> None:
    """Not at the end of a first window, behind which others are read."""
    own = records(10) if task.task == "classify" else entities(10)
    tally = tally_of(task, own)
    evaluation = {"test": with_intervals(task, own, tally), **details(own, tally)}
    page = evaluation_page(task, evaluation, own, ID, "test", "model/x on its test split")
    *_, tokens = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert ("stroke-dasharray" in tokens) == has_line


def test_columns_that_make_no_slices_are_told(evaluation: dict[str, Any]) -> None:
    evaluation["unsliced"] = {"user": 1200}
    assert "Left out, since no value has 20 rows: user (1,200 values)." in page_of(evaluation)


def test_numbers_are_written_with_their_intervals() -> None:
    assert number(0.5, [0.25, 0.75]) == "0.5000 [0.2500, 0.7500]"
    assert number(0.5, [-0.25, 0.75], "+") == "+0.5000 [-0.2500, +0.7500]"
    assert number(0.5, None) == "0.5000"
    assert (p_text(0.03), p_text(1e-6)) == ("0.0300", "< 0.0001")


def written(row: int, gold: str, answer: str) -> dict[str, Any]:
    return {
        "row": row,
        "id": str(row),
        "prompt": f"question {row}",
        "gold": gold,
        "prediction": answer,
        **likeness(gold, answer),
        "finish_reason": "stop" if row else "length",
        "new_tokens": 2,
        "loss": 2.0 + row,
        "right": 1,
        "targets": 4,
        "tokens": 9,
        "truncated": False,
        "text": f"question {row}\n{gold}",
    }


def test_written_answers_stand_beside_their_prompts() -> None:
    task = WritingTask(task="write", base="x")
    truths = [f"answer {row}" for row in range(30)]
    own = [written(row, gold, gold if row != 7 else "wrong") for row, gold in enumerate(truths)]
    base = [written(row, gold, "none") for row, gold in enumerate(truths)]
    test, *flips = compared(task, own, base)
    tally = tally_of(task, own)
    evaluation = {
        "test": with_intervals(task, own, tally),
        **details(own, tally),
        "base": with_intervals(task, base, tally_of(task, base)),
        "against": {"base": test},
    }
    page = Read(evaluation_page(task, evaluation, own, ID, "test", "model/x"))
    for part in ("Against base, on the same 30 rows", "ROUGE-L", "perplexity", "length", "Prompt"):
        assert part in page.text
    shown = {"question 7", "answer 7", "wrong", "question 0", "answers", "true answers"}
    assert shown <= {*page.cells}
    assert not {"prompt", "loss"} & {*evaluation["slices"], *evaluation["unsliced"]}
    named = {"model": "model/x", "against": "model/y", "left_out": 0}
    beside = Read(comparison_page(task, {**named, **test}, own, base, flips, ID))
    assert "First's ROUGE-L" in beside.text
    assert "question 3" in beside.cells
