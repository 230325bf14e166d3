import math
from typing import Any

import numpy as np
import pytest

from trainers.scoring.evaluation.bootstrap import intervals
from trainers.tasks.writing.figures import figures, tally
from trainers.tasks.writing.likeness import likeness


def record(gold: str, answer: str, **further: Any) -> dict[str, Any]:
    sums = {"loss": 2.0, "right": 1, "targets": 4, "finish_reason": "stop"}
    return {"gold": gold, "prediction": answer, **likeness(gold, answer), **sums, **further}


RECORDS = [
    record("a b c", "a b c"),
    record("a b c d", "a b", loss=6.0, right=3, targets=12, finish_reason="length"),
    record("好的", "不", loss=1.0, right=0, targets=2),
]


def test_figures() -> None:
    computed = figures(RECORDS)
    assert computed["loss"] == pytest.approx(9 / 18)
    assert computed["perplexity"] == pytest.approx(math.exp(0.5))
    assert computed["accuracy"] == pytest.approx(4 / 18)
    assert computed["rouge_l"] == pytest.approx((1 + 4 / 6 + 0) / 3)
    assert computed["exact_match"] == pytest.approx(1 / 3)
    assert computed["ended"] == pytest.approx(2 / 3)
    assert computed["finish_reasons"] == {"stop": 2, "length": 1}
    answers, true = (computed["per_text"][name] for name in ("answers", "true answers"))
    assert answers["words"] == pytest.approx((3 + 2 + 1) / 3)
    assert answers["distinct_1"] == pytest.approx(4 / 6)  # a b c a b 不
    assert answers["distinct_2"] == pytest.approx(2 / 3)  # ab bc ab
    assert true["characters"] == pytest.approx((5 + 7 + 2) / 3)


def test_the_tally_has_every_metric_of_any_records() -> None:
    counted = tally(RECORDS)
    computed = figures(RECORDS)
    assert {name: computed[name] for name in counted.figures()} == counted.figures()
    part = counted.of(np.array([1, 2]))
    assert part.figures() == tally(RECORDS[1:]).figures()
    for name, (low, high) in intervals(counted).items():
        assert low <= computed[name] <= high


def test_the_least_alike_answer_is_the_worst() -> None:
    counted = tally(RECORDS)
    assert counted.correct.tolist() == [True, False, False]
    assert counted.severity.argsort().tolist() == [0, 1, 2]


def test_answers_without_a_word_have_figures() -> None:
    computed = figures([record("a", "", targets=0, loss=0.0, right=0)])
    assert computed["per_text"]["answers"]["distinct_2"] == 0
    assert computed["perplexity"] == 1
