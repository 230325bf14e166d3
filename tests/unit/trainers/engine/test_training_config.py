"""How many workers a training has."""

from typing import Any

import pytest
from pydantic import ValidationError

from trainers.tasks.pretraining.config import Pretrain


@pytest.mark.parametrize(
    ("workers", "least", "most"),
    [(2, 2, 2), ({"max": 3}, 1, 3), ({"min": 2, "max": 4}, 2, 4)],
)
def test_workers_are_a_number_or_a_range(workers: Any, least: int, most: int) -> None:
    settings = Pretrain.model_validate({"model": {}, "workers": workers, "cpus_per_worker": 2})
    assert (settings.least_workers, settings.most_workers) == (least, most)
    assert settings.resources == {"CPU": 2 * least}, "what it needs to begin"
    again = Pretrain.model_validate(settings.model_dump(mode="json"))
    assert again == settings
    assert settings.worker_cpus == 2
    assert settings.identity() == Pretrain.model_validate({"model": {}}).identity()


def test_auto_is_the_default_and_the_least_until_it_is_decided() -> None:
    settings = Pretrain.model_validate({"model": {}, "workers": "auto"})
    assert settings == Pretrain.model_validate({"model": {}, "cpus_per_worker": "auto"})
    assert (settings.least_workers, settings.most_workers, settings.worker_cpus) == (1, 1, 1)
    assert settings.resources == {"CPU": 1}


@pytest.mark.parametrize("key", ["workers", "cpus_per_worker"])
@pytest.mark.parametrize("value", ["many", 0, 1.5, [1]])
def test_other_words_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        Pretrain.model_validate({"model": {}, key: value})
