"""How many workers a training has."""

from typing import Any

import pytest

from trainers.tasks.pretraining.config import Pretrain


@pytest.mark.parametrize(
    ("workers", "least", "most"),
    [(2, 2, 2), ({"max": 3}, 1, 3), ({"min": 2, "max": 4}, 2, 4)],
)
def test_workers_are_a_number_or_as_many_as_there_is_room_for(
    workers: Any, least: int, most: int
) -> None:
    settings = Pretrain.model_validate({"model": {}, "workers": workers, "cpus_per_worker": 2})
    assert (settings.least_workers, settings.most_workers) == (least, most)
    assert settings.resources == {"CPU": 2 * least}, "what it needs to begin"
    again = Pretrain.model_validate(settings.model_dump(mode="json"))
    assert again == settings
    assert settings.identity() == Pretrain.model_validate({"model": {}}).identity()
