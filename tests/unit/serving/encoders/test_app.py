"""What Kubernetes builds: the application of a promoted model, with the settings it has there."""

from pathlib import Path

from cluster.store.storage import Storage
from serving.encoders.app import build
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
