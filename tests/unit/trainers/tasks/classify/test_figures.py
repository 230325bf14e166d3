"""Against scikit-learn, and against examples worked by hand."""

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from trainers.tasks.classify.figures import calibration_error, figures


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


def test_calibration_error_by_hand() -> None:
    """Two in the bin of 0.9, one of them right; two in that of 0.6, both right."""
    confidence, correct = np.array([0.9, 0.9, 0.61, 0.65]), np.array([True, False, True, True])
    expected = 0.5 * abs(0.9 - 0.5) + 0.5 * abs(0.63 - 1.0)
    assert calibration_error(confidence, correct) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("confidence", "correct", "expected"), [(1.0, True, 0.0), (1.0, False, 1.0), (0.75, True, 0.25)]
)
def test_calibration_error_of_one_document(
    confidence: float, correct: bool, expected: float
) -> None:
    found = calibration_error(np.array([confidence]), np.array([correct]))
    assert found == pytest.approx(expected)
