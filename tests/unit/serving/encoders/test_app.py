"""What Kubernetes builds: the application of a promoted model, with the settings it has there."""

from pathlib import Path

from cluster.store.storage import Storage
from serving.config import Serve
from serving.encoders.app import application, build
from tests.fakes import published


def test_what_is_built_has_the_settings_it_was_promoted_with_but_for_those_given(
    tmp_path: Path,
) -> None:
    storage = Storage.at(str(tmp_path))
    model = published(storage, "model/demo-finetune-00")
    files = {"serve.json": '{"max_inputs": 1000, "max_batch_size": 7}'}
    published(storage, "promotion/demo-promote-00", files, parents={"finetune": model.id})
    built = build({"model": "demo", "workspace": str(tmp_path), "max_batch_size": 8})
    served, settings = built._bound_deployment.init_args
    assert served.id == model.id
    assert (settings.max_inputs, settings.max_batch_size) == (1000, 8)


def test_replicas_hold_what_the_settings_ask_for(tmp_path: Path) -> None:
    model = published(Storage.at(str(tmp_path)), "model/demo-finetune-00")
    for gpus in (0.0, 0.25):
        made = application(model, Serve(cpus_per_replica=2, gpus_per_replica=gpus))
        options = made._bound_deployment.ray_actor_options
        assert (options["num_cpus"], options["num_gpus"]) == (2, gpus)
