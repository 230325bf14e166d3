"""Ray Train's worker groups: with a cleaner that needs no dashboard, and torch in workers alone.

Ray's TorchTrainer imports torch in the driver and the controller too: three seconds of a core each,
while the workers import it. Here its functions for torch are named where torch is.
"""

import dataclasses
import logging
import os
from contextlib import AbstractContextManager
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.constants import DEFAULT_TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S
from ray.train.v2._internal.callbacks import placement_group_callback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.util import TrainingFramework
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cluster.ray.replacing import replaced
from trainers.launch.cleaner import Cleaner

INTERVAL_S = 0.5
"""How often it looks for its controller."""


class Trainer(DataParallelTrainer):
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


@dataclasses.dataclass
class Torch(BackendConfig):
    """As Ray's TorchConfig."""

    backend: str
    """nccl or gloo."""

    @property
    def backend_cls(self) -> type[Backend]:
        return TorchBackend

    @property
    def train_func_context(self) -> Any:
        return _device

    @property
    def framework(self) -> TrainingFramework:
        return TrainingFramework.TORCH


class TorchBackend(Backend):
    """In the controller: lets the workers form a process group, and leave it."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        address, port = worker_group.execute_single(0, get_address_and_port)
        workers = len(worker_group)
        joining = [
            worker_group.execute_single_async(
                rank, _join, address, port, rank, workers, backend_config.backend
            )
            for rank in range(workers)
        ]
        ray.get(joining)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        leaving = worker_group.execute_async(_leave)
        try:
            ray.get(leaving, timeout=DEFAULT_TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S)
        except RayError as error:  # of what ended it too: Ray Train frees its CPUs only behind this
            logging.getLogger(__name__).warning("a worker did not leave its group: %r", error)


def _join(address: str, port: int, rank: int, workers: int, backend: str) -> None:
    from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group

    os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port))
    _set_torch_distributed_env_vars()
    _setup_torch_process_group(backend, rank, workers, "env://")


def _leave() -> None:
    from ray.train.torch.config import _shutdown_torch

    _shutdown_torch(destroy_process_group=True)


def _device() -> AbstractContextManager[None]:
    """Around the training, in a worker: the GPU that is its own."""
    from ray.train.torch.config import TorchConfigContextManager

    return TorchConfigContextManager()
