"""What a recipe of `task: prefer` may say."""

from typing import Any

import pytest
from pydantic import ValidationError

from trainers.tasks.prefer.spec import Prefer


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"loss": "robust"}, "needs the share of pairs"),
        ({"label_smoothing": 0.1}, "is of loss: robust, found loss: sigmoid"),
        ({"loss": "ipo", "gamma": 1.0}, "is of loss: simpo, found loss: ipo"),
        ({"loss": "orpo", "reference": "scored"}, "loss: orpo has none"),
        ({"reference": "adapter_off"}, "needs a method with an adapter"),
        (
            {"method": {"name": "lora", "base_bits": 4}, "reference": "scored"},
            "asks the whole base, not that of base_bits = 4",
        ),
        ({"method": "prefix"}, "tokens that prefix begins with are drawn at random"),
        ({"overlong": "split"}, "drop"),
    ],
)
def test_keys_that_contradict_the_loss_are_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Prefer.model_validate(keys)


def test_a_loss_without_a_reference_takes_every_method() -> None:
    assert Prefer.model_validate({"method": "prompt", "loss": "simpo"}).virtual_tokens == 20


def test_beta_is_that_of_the_loss() -> None:
    assert Prefer().temperature == 0.1
    assert Prefer(loss="simpo").temperature == 2.0
    assert Prefer(loss="simpo", beta=1.5).temperature == 1.5


def test_a_learning_rate_is_far_below_that_of_supervised_training() -> None:
    assert Prefer().learning_rate == pytest.approx(1e-6)
    assert Prefer(method="lora").learning_rate == pytest.approx(1e-5)  # type: ignore[arg-type]
    assert Prefer(learning_rate=3e-4).learning_rate == 3e-4


@pytest.mark.parametrize(
    "keys",
    [{"method": "lora"}, {"method": "adalora"}, {"method": "prefix", "loss": "simpo"}],
    ids=str,
)
def test_nothing_is_said_against_the_learning_rate_by_default(keys: dict[str, Any]) -> None:
    assert [*Prefer.model_validate(keys).advice] == []
    assert len([*Prefer.model_validate({**keys, "learning_rate": 1e-6}).advice]) == (
        keys["method"] != "lora"
    )


@pytest.mark.parametrize(
    ("keys", "splits"),
    [
        ({}, ("train", "validation", "test")),
        ({"method": "lora", "reference": "scored"}, ("train", "validation", "test")),
        ({"method": "lora"}, ("test",)),
        ({"loss": "simpo"}, ()),
        ({"loss": "orpo", "method": "lora"}, ()),
    ],
)
def test_the_base_is_asked_where_the_loss_needs_it(
    keys: dict[str, Any], splits: tuple[str, ...]
) -> None:
    """With an adapter, training has the base in the model."""
    assert Prefer.model_validate(keys).asked_of_base == splits


def test_a_divergence_is_reported_where_there_is_a_reference() -> None:
    assert "kl" in Prefer().test_metrics
    assert "kl" not in Prefer(loss="orpo").test_metrics
    assert {*Prefer().validation_metrics} <= {*Prefer.metrics}


def test_all_trials_have_the_same_rows_and_reference() -> None:
    assert {"base", "template", "max_length", "overlong", "reference"} <= {*Prefer.fixed}
