"""What replicas of an encoder's endpoint hold."""

from pathlib import Path

from cluster.store.storage import Storage
from serving.config import Serve
from serving.encoders.app import application
from tests.fakes import published


def test_replicas_hold_what_the_settings_ask_for(tmp_path: Path) -> None:
    model = published(Storage.at(str(tmp_path)), "model/demo-finetune-00")
    for gpus in (0.0, 0.25):
        made = application(model, Serve(cpus_per_replica=2, gpus_per_replica=gpus))
        options = made._bound_deployment.ray_actor_options
        assert (options["num_cpus"], options["num_gpus"]) == (2, gpus)
