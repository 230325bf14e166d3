"""What Kubernetes builds: the application of a promoted model, with the settings it has there."""

from pathlib import Path

import pytest

from cluster.store.storage import Storage
from serving.rollout.applications import build
from tests.fakes import published


@pytest.mark.parametrize(
    ("task", "module"), [("classify", "serving.encoders"), ("chat", "serving.generation")]
)
def test_what_is_built_has_the_settings_it_was_promoted_with_but_for_those_given(
    tmp_path: Path, task: str, module: str
) -> None:
    storage = Storage.at(str(tmp_path))
    inputs, config = {"finetune": {"task": task}}, {"config.json": "{}"}
    model = published(storage, "model/demo-finetune-00", config, inputs=inputs)
    files = {"serve.json": '{"max_inputs": 1000, "max_batch_size": 7, "gpus_per_replica": 0.5}'}
    published(storage, "promotion/demo-promote-00", files, parents={"finetune": model.id})
    arguments = {"model": "demo", "workspace": str(tmp_path), "max_batch_size": 8}
    deployment = build(arguments)._bound_deployment
    served, settings = deployment.init_args
    assert deployment.func_or_class.__module__.startswith(module)
    assert served.id == model.id
    assert (settings.max_inputs, settings.max_batch_size) == (1000, 8)
    assert deployment.ray_actor_options["num_gpus"] == 0.5
