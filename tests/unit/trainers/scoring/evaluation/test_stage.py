import pytest

from trainers.scoring.evaluation.stage import described, mean_of, over_seeds, warning
from trainers.tasks.classify.spec import Classify


def test_the_gain_from_pretraining_is_paired_by_seed() -> None:
    found = over_seeds({"pretrained": [0.80, 0.82, 0.84], "scratch": [0.70, 0.73, 0.73]}, "max")
    assert found["pretrained"]["mean"] == pytest.approx(0.82)
    gain = found["gain from pretraining"]
    assert gain["values"] == pytest.approx([0.10, 0.09, 0.11])
    assert gain["mean"] == pytest.approx(0.10)
    # Of the differences, not of the values, which vary more.
    assert gain["half_width_95"] == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-3)


def test_of_an_error_the_gain_is_how_much_less_there_is() -> None:
    found = over_seeds({"pretrained": [0.2], "scratch": [0.5]}, "min")
    assert found["gain from pretraining"]["mean"] == pytest.approx(0.3)


def test_without_a_second_kind_there_is_no_gain() -> None:
    assert list(over_seeds({"pretrained": [0.8, 0.9]}, "max")) == ["pretrained"]


def test_an_interval_is_students() -> None:
    """Three values: t(0.975, 2) = 4.3027."""
    found = mean_of([0.80, 0.82, 0.84])
    assert found["mean"] == pytest.approx(0.82)
    assert found["half_width_95"] == pytest.approx(4.3027 * 0.02 / 3**0.5, rel=1e-4)
    assert mean_of([0.5, 0.5])["half_width_95"] == 0.0
    assert mean_of([0.5]) == {"mean": 0.5}, "one value has no interval"


def test_a_baseline_has_the_groups_and_slices_that_the_model_knows() -> None:
    """So that its intervals are over the same groups, and its figures of the same parts."""
    of_baseline = [{"id": "a", "prediction": "x"}, {"id": "b", "prediction": "y"}]
    ours = [
        {"id": "a", "prediction": "z", "score": 0.9, "group": "g", "shop": "tea"},
        {"id": "b", "prediction": "z", "score": 0.8, "group": None, "shop": "books"},
    ]
    assert described(of_baseline, ours) == [
        {"id": "a", "prediction": "x", "group": "g", "shop": "tea"},
        {"id": "b", "prediction": "y", "group": None, "shop": "books"},
    ]


@pytest.mark.parametrize(
    ("difference", "interval", "told"),
    [(-0.05, [-0.08, -0.02], True), (-0.01, [-0.03, 0.01], False), (0.05, [0.02, 0.08], False)],
)
def test_a_baseline_that_is_better_beyond_chance_is_told(
    difference: float, interval: list[float], told: bool
) -> None:
    differences = {"accuracy": {"difference": difference, "interval": interval}}
    found = warning(Classify(task="classify", base="b"), "ngram", differences)
    assert (found is not None) == told
    if found is not None:
        assert "ngram has a better accuracy than the model, by 0.0500 [0.0200, 0.0800]" in found
