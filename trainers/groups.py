"""Ray Train's worker groups, with a cleaner that needs no dashboard."""

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import placement_group_callback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from cluster.replacing import replaced
from trainers.cleaner import Cleaner

INTERVAL_S = 0.5
"""How often it looks for its controller."""


class Trainer(TorchTrainer):
    def _create_default_callbacks(self) -> list[Any]:
        others = [
            callback
            for callback in super()._create_default_callbacks()  # type: ignore[misc]
            if not isinstance(callback, PlacementGroupCleanerCallback)
        ]
        return [*others, Cleaning(check_interval_s=INTERVAL_S)]


class Cleaning(PlacementGroupCleanerCallback):
    """In the controller: starts the cleaner, and ends it."""

    def after_controller_start(self, train_run_context: Any) -> None:
        with replaced(placement_group_callback, "PlacementGroupCleaner", Cleaner):
            super().after_controller_start(train_run_context)
