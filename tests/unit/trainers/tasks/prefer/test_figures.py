from typing import Any

import pytest

from trainers.tasks.prefer.figures import figures, tally


def record(margin: float, score: float = 0.6, **keys: Any) -> dict[str, Any]:
    known = {"chosen_log_probability": -1.0, "rejected_log_probability": -2.0}
    prediction = "chosen" if margin > 0 else "rejected"
    of_both = {"gold": "chosen", "prediction": prediction, "margin": margin, "score": score}
    return {**of_both, **known, **keys}


def test_they_are_means_over_pairs() -> None:
    records = [record(0.5, kl=0.1), record(-0.1, kl=0.3), record(0.2, kl=0.2)]
    assert figures(records) == pytest.approx(
        {
            "reward_accuracy": 2 / 3,
            "margin": 0.2,
            "kl": 0.2,
            "chosen_log_probability": -1.0,
            "rejected_log_probability": -2.0,
            "pairs": 3,
        }
    )


def test_without_a_reference_there_is_no_divergence() -> None:
    assert "kl" not in figures([record(0.5), record(-0.1)])


def test_the_surest_mistake_is_the_worst() -> None:
    made = tally([record(0.5, 0.62), record(-2.0, 0.88), record(-0.1, 0.52)])
    assert made.correct.tolist() == [True, False, False]
    assert made.severity.argmax() == 1


def test_metrics_of_resamples_are_those_of_sums() -> None:
    made = tally([record(0.5, kl=0.1), record(-0.5, kl=0.3)])
    metrics = made.metrics(made.counts[[[0, 0], [1, 1]]].sum(1))
    assert metrics["reward_accuracy"].tolist() == [1.0, 0.0]
    assert metrics["kl"].tolist() == pytest.approx([0.1, 0.3])
