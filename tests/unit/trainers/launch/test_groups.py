"""A group ends whatever becomes of its workers: only then does Ray Train free what it held."""

from unittest import mock

import pytest
import ray
import ray.train
from ray.exceptions import OutOfMemoryError, RayActorError, RayError
from ray.train.torch import TorchTrainer

from trainers.launch.groups import Torch, TorchBackend, Trainer


def test_workers_of_a_node_see_each_others_gpus() -> None:
    """Ray Train looks for this; a worker takes the GPU of its local rank among them."""
    assert Torch().backend_cls().share_cuda_visible_devices


@pytest.mark.parametrize("error", [OutOfMemoryError("killed"), RayActorError()])
def test_a_worker_that_cannot_leave_keeps_none_from_leaving(
    error: RayError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray, "get", mock.Mock(side_effect=error))
    TorchBackend().on_shutdown(mock.MagicMock(), Torch("gloo"))
    assert f"a worker did not leave its group: {error!r}" in caplog.text


def test_a_group_starts_all_that_ray_train_does_but_for_datasets() -> None:
    scaling = ray.train.ScalingConfig(num_workers=2)
    ours, theirs = (
        kind(lambda: None, torch_config=Torch("gloo"), scaling_config=scaling)
        for kind in (Trainer, TorchTrainer)
    )
    started = [type(one).__name__ for one in ours._create_default_callbacks()]
    by_default = [type(one).__name__ for one in theirs._create_default_callbacks()]
    assert sorted([*started, "DatasetsCallback"]) == sorted(by_default)
