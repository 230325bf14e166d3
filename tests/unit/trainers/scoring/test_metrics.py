"""Against scikit-learn, and against examples worked by hand."""

import numpy as np
import pytest
from sklearn import metrics as reference
from trainers.scoring.metrics import calibration_error, classification, interval


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_figures_are_those_of_scikit_learn(classes: int) -> None:
    draw = np.random.default_rng(classes)
    probabilities = draw.dirichlet(np.ones(classes), 200)
    labels = draw.integers(0, classes, 200)
    predicted = probabilities.argmax(axis=1)
    found = classification(probabilities, labels)
    assert found["accuracy"] == reference.accuracy_score(labels, predicted)
    assert found["macro_f1"] == reference.f1_score(labels, predicted, average="macro")
    assert found["confusion"] == reference.confusion_matrix(labels, predicted).tolist()
    assert found["documents"] == 200


def test_a_class_that_does_not_occur_counts_in_the_confusion_and_the_mean() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    found = classification(probabilities, np.array([0, 1, 1]))
    assert found["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_calibration_error_by_hand() -> None:
    """Two in the bin of 0.9, one of them right; two in that of 0.6, both right."""
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.61, 0.39], [0.65, 0.35]])
    labels = np.array([0, 0, 0, 0])
    expected = 0.5 * abs(0.9 - 0.5) + 0.5 * abs(0.63 - 1.0)
    assert calibration_error(probabilities, labels) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("confidence", "label", "expected"), [(1.0, 0, 0.0), (1.0, 1, 1.0), (0.75, 0, 0.25)]
)
def test_calibration_error_of_one_document(confidence: float, label: int, expected: float) -> None:
    probabilities = np.array([[confidence, 1 - confidence]])
    assert calibration_error(probabilities, np.array([label])) == pytest.approx(expected)


def test_an_interval_is_students() -> None:
    """Three values: t(0.975, 2) = 4.3027."""
    found = interval([0.80, 0.82, 0.84])
    assert found["mean"] == pytest.approx(0.82)
    assert found["half_width_95"] == pytest.approx(4.3027 * 0.02 / 3**0.5, rel=1e-4)
    assert interval([0.5, 0.5])["half_width_95"] == 0.0
    assert interval([0.5]) == {"mean": 0.5}, "one value has no interval"
