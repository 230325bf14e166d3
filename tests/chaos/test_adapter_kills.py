"""Kills at random moments of a training of conversations by LoRA: each conversation is learned from
once an epoch, and the adapter is that of a training that nothing happened to.

`KILLS=3 pytest tests/chaos/test_adapter_kills.py` is a shorter form.
"""

import random
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from ray.cluster_utils import Cluster
from safetensors.torch import load_file
from torch import Tensor

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests import numbered
from tests.adapters import bases
from tests.chaos import test_training_kills as kills
from tests.chaos.test_training_kills import cluster
from tests.fakes import published
from trainers.corpora.tokens.pack import write_arrow
from trainers.engine.job import TrainJob
from trainers.launch import training
from trainers.methods.loading import WEIGHTS
from trainers.models.build import Start
from trainers.tasks.chat.spec import Chat
from trainers.tasks.chat.task import ChatTask
from trainers.tasks.task import Task

__all__ = ["cluster"]

SETTINGS = Chat.model_validate(
    {
        **numbered.settings(epochs=kills.EPOCHS, workers=2),
        "method": "lora",
        "max_length": numbered.LENGTH,
        "packing": False,  # so that each row of a batch begins with its number
    }
)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """Conversations as the stage `render` leaves them, of which the second half is learned."""
    folder = tmp_path_factory.mktemp("talk")
    bases(folder)
    unlearned = {"train": {"dropped": {}, "noted": {}}}
    rows = published(Storage.at(str(folder)), "rows/talk-render-00", metrics=unlearned)
    learned = [place >= numbered.LENGTH // 2 for place in range(numbered.LENGTH)]
    columns = {"input_ids": numbered.sequences(kills.ROWS), "learned": [learned] * kills.ROWS}
    for split, table in (("train", pa.table(columns)), ("validation", pa.table(columns)[:8])):
        write_arrow(table, rows.path / f"{split}.arrow")
    llama = str(folder / "causal")
    return ChatTask(SETTINGS, rows, Start(base=llama), llama)


def adapter(task: Task, folder: Path) -> dict[str, Tensor]:
    draft = Draft(Storage.at(str(folder)), "model/talk-finetune-0")
    job = TrainJob(lambda: task, SETTINGS, kills.SEED, draft)
    training.fit_all([job], kills.Timed(), training.Limits(kills.KILLS))
    return load_file(folder / draft.place / WEIGHTS)


def test_killed_workers_cost_an_adapter_nothing(
    chat: Task, cluster: Cluster, tmp_path: Path
) -> None:
    unbroken = adapter(chat, tmp_path / "unbroken")
    draw, folder, records = random.Random(kills.SEED), tmp_path / "killed", tmp_path / "records"
    records.mkdir()
    with kills.killing(folder, records, lambda: kills.kill_a_worker(draw)) as times:
        found = adapter(numbered.Recorded(chat, records), folder)
    assert len(times) == kills.KILLS
    kills.assert_all_was_learned_once(records, times)
    assert found.keys() == unbroken.keys()
    for name, weight in found.items():
        assert torch.allclose(weight, unbroken[name], rtol=0, atol=1e-6), name
