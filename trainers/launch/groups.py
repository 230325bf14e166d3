"""How the workers of a group come to form a process group of torch, and leave it."""

import logging
from typing import Any

from ray.exceptions import RayError
from ray.train.backend import Backend
from ray.train.torch import TorchConfig


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
