"""Against scikit-learn, and against examples worked by hand."""

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from trainers.tasks.calibration import reliability
from trainers.tasks.classify.figures import figures, tally


def records(gold: list[Any], prediction: list[Any], score: float = 0.9) -> list[dict[str, Any]]:
    return [
        {"gold": one, "prediction": other, "score": score}
        for one, other in zip(gold, prediction, strict=True)
    ]


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_figures_are_those_of_scikit_learn(classes: int) -> None:
    draw = np.random.default_rng(classes)
    gold, predicted = draw.integers(0, classes, (2, 200)).astype(str).tolist()
    found = figures(records(gold, predicted))
    assert found["accuracy"] == found["micro_f1"] == reference.accuracy_score(gold, predicted)
    expected = reference.f1_score(gold, predicted, average="macro")
    assert found["macro_f1"] == pytest.approx(expected)
    assert found["confusion"] == reference.confusion_matrix(gold, predicted).tolist()
    assert found["documents"] == 200
    recall = reference.recall_score(gold, predicted, average=None)
    assert [one["recall"] for one in found["per_label"].values()] == pytest.approx(recall)


def test_a_label_without_gold_and_without_predictions_is_left_out() -> None:
    """torchmetrics#1494: a class that the test file lacks took half of macro-F1."""
    found = figures(records(["good", "good"], ["good", "good"]))
    assert (found["accuracy"], found["macro_f1"]) == (1.0, 1.0)
    missed = figures(records(["good", "good"], ["good", "bad"]))
    assert missed["macro_f1"] == pytest.approx((2 / 3 + 0) / 2), "a prediction of it counts"


def test_figures_of_several_labels_are_those_of_scikit_learn() -> None:
    gold = [["a"], ["a", "b"], [], ["b", "c"]]
    predicted = [["a"], ["b"], [], ["b", "c", "a"]]
    found = figures(records(gold, predicted))
    hot = np.array(
        [[[label in row for label in "abc"] for row in rows] for rows in (gold, predicted)]
    )
    assert found["accuracy"] == 0.5
    for average in ("micro", "macro"):
        expected = reference.f1_score(*hot, average=average)
        assert found[f"{average}_f1"] == pytest.approx(expected)
    assert found["per_label"]["a"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "documents": 2.0}
    assert "confusion" not in found


def test_records_without_any_label_have_figures() -> None:
    found = figures(records([[], []], [[], []]))
    assert (found["accuracy"], found["micro_f1"], found["macro_f1"]) == (1.0, 0.0, 0.0)
    assert tally(records([["a"], []], [[], []])).correct.tolist() == [False, True]


def scored(*rows: tuple[float, bool]) -> list[dict[str, Any]]:
    """Records of such a score, right or wrong."""
    return [
        {"gold": "good", "prediction": "good" if is_right else "bad", "score": score}
        for score, is_right in rows
    ]


def test_calibration_error_by_hand() -> None:
    """Two in the bin of 0.9, one of them right; two in that of 0.6, both right."""
    found = figures(scored((0.9, True), (0.9, False), (0.61, True), (0.65, True)))
    expected = 0.5 * abs(0.9 - 0.5) + 0.5 * abs(0.63 - 1.0)
    assert found["calibration_error"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("confidence", "correct", "expected"), [(1.0, True, 0.0), (1.0, False, 1.0), (0.75, True, 0.25)]
)
def test_calibration_error_of_one_document(
    confidence: float, correct: bool, expected: float
) -> None:
    found = figures(scored((confidence, correct)))
    assert found["calibration_error"] == pytest.approx(expected)


def test_the_bins_of_reliability_come_to_the_calibration_error() -> None:
    draw = np.random.default_rng(0)
    rows = [(float(score), bool(draw.random() < score)) for score in draw.uniform(0.3, 1, 300)]
    counted = tally(scored(*rows))
    assert counted.answers is not None
    bins = reliability(counted.answers.confidence, counted.answers.correct)
    assert sum(one["answers"] for one in bins) == 300
    error = sum(one["answers"] * abs(one["confidence"] - one["correct"]) for one in bins) / 300
    assert figures(scored(*rows))["calibration_error"] == pytest.approx(error)
