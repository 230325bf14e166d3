"""A group of workers: what Ray Train starts for it, and how they come to form a process group of
torch, and leave it."""

import logging
from typing import Any

from ray.exceptions import RayError
from ray.train.backend import Backend
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.ray.train_internals import DatasetsCallback


class Trainer(TorchTrainer):
    """Without the process that hands out Ray Datasets, which raymill gives none: each group would
    wait for its start, and hold its memory."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]
        return [one for one in callbacks if not isinstance(one, DatasetsCallback)]


class Torch(TorchConfig):
    @property
    def backend_cls(self) -> type[Backend]:
        return TorchBackend


class TorchBackend(TorchConfig().backend_cls):  # type: ignore[misc]
    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        try:
            super().on_shutdown(worker_group, backend_config)
        except RayError as error:  # of what ended it too: Ray Train frees its CPUs only behind this
            logging.getLogger(__name__).warning("a worker did not leave its group: %r", error)
