"""What replicas of an endpoint of a model that writes hold."""

from pathlib import Path

import pytest

from cluster.errors import UserError
from cluster.store.storage import Storage
from serving.config import Serve
from serving.generation.app import application
from tests.fakes import published


def test_replicas_refuse_themselves_what_is_too_much(tmp_path: Path) -> None:
    """In OpenAI's shape: Serve's own answer has none."""
    files = {"config.json": '{"model_type": "llama"}'}
    model = published(Storage.at(str(tmp_path)), "model/demo-finetune-00", files)
    settings = Serve(max_sequences=4, max_queued=6, cpus_per_replica=2)
    deployment = application(model, settings)._bound_deployment
    assert deployment.max_ongoing_requests > settings.max_sequences + settings.max_queued
    assert deployment.ray_actor_options["num_cpus"] == 2


def test_an_encoder_decoder_is_refused_before_anything_starts(tmp_path: Path) -> None:
    files = {"config.json": '{"model_type": "t5", "is_encoder_decoder": true}'}
    model = published(Storage.at(str(tmp_path)), "model/demo-finetune-00", files)
    with pytest.raises(UserError, match=r"is an encoder-decoder \(t5\), which has no endpoint yet"):
        application(model, Serve())
