"""A model is exported as the optimizer has it, in fp32, from any ZeRO stage on two workers."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests.fakes import Notes
from tests.integration import processes
from trainers.engine import loop
from trainers.engine.job import TrainJob
from trainers.engine.loop import train
from trainers.engine.training_config import Training
from trainers.models import export
from trainers.models.build import Start
from trainers.models.shape import Shape
from trainers.planning.synthetic_corpus import corpus
from trainers.tasks.pretraining.causal_lm import CausalLM
from trainers.tasks.pretraining.replaced_tokens import ReplacedTokens
from trainers.tasks.task import Task

CUT = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
FILE_BYTES = 30_000
"""So that the models here take several."""
SIZES = {"hidden_size": 32, "layers": 2, "heads": 2, "max_positions": 64}


@dataclasses.dataclass(frozen=True)
class Case:
    stage: int
    precision: str = "bf16"
    offload: bool = False
    architecture: str = "llama"

    @property
    def name(self) -> str:
        return "-".join(map(str, dataclasses.astuple(self)))

    @property
    def settings(self) -> Training:
        zero: dict[str, Any] = {"stage": self.stage}
        if self.offload:
            zero["offload_optimizer"] = "cpu"
            if self.stage == 3:
                zero["offload_parameters"] = "cpu"
        keys = {"workers": 2, "batch_size": 4, "micro_batch_size": 2, "epochs": 2}
        passed = CUT if self.stage == 3 else {}
        return Training.model_validate(
            {**keys, "precision": self.precision, "zero": zero, "deepspeed": passed}
        )


CASES = [
    *[Case(stage) for stage in range(4)],
    *[Case(stage, "fp32") for stage in (0, 2)],
    *[Case(stage, offload=True) for stage in (2, 3)],
    Case(3, architecture="electra"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every case has left its model, and DeepSpeed's checkpoint of the same weights."""
    folder = tmp_path_factory.mktemp("exports")
    corpus(folder, 200, 64, rows=8)
    processes.run(_worker, (folder,), 2)
    return folder


def _worker(rank: int, folder: Path) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    store = dist.FileStore(str(folder / "world"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.set_num_threads(1)
    export.FILE_BYTES = FILE_BYTES
    real = export.export
    for case in CASES:

        def keep(engine: Any, *rest: Any, case: Case = case) -> None:
            real(engine, *rest)
            if case.stage:
                engine.save_checkpoint(str(folder / f"checkpoint-{case.name}"), tag="state")
            else:
                torch.save(engine.module.state_dict(), folder / f"module-{case.name}-{rank}")

        loop.export = keep  # type: ignore[assignment]
        train(
            TrainJob(
                functools.partial(_task, case, folder), case.settings, 17, _draft(case, folder)
            ),
            Notes(),
        )
    dist.destroy_process_group()


def _task(case: Case, folder: Path) -> Task:
    start = Start(Shape.model_validate({"architecture": case.architecture, **SIZES}))
    from cluster.store import artifacts

    made = artifacts.find(Storage.at(str(folder)), "corpus/stand-in-shard-00")
    assert made is not None
    kind = ReplacedTokens if case.architecture == "electra" else CausalLM
    return kind(made, start, 17, 1)


def _draft(case: Case, folder: Path) -> Draft:
    return Draft(Storage.at(str(folder)), f"model/{case.name}")


def exported(case: Case, folder: Path, place: str = "") -> dict[str, Tensor]:
    files = sorted((folder / _draft(case, folder).place / place).glob("*.safetensors"))
    assert len(files) > 1
    found: dict[str, Tensor] = {}
    for file in files:
        weights = load_file(file)
        assert not found.keys() & weights.keys()
        assert len(weights) == 1 or file.stat().st_size < FILE_BYTES * 1.1
        found |= weights
    return found


def trained(case: Case, folder: Path) -> Mapping[str, Tensor]:
    """By DeepSpeed's own tool, from its checkpoint."""
    checkpoint = str(folder / f"checkpoint-{case.name}")
    return get_fp32_state_dict_from_zero_checkpoint(checkpoint, tag="state")


@pytest.mark.parametrize("case", [case for case in CASES if case.stage], ids=lambda case: case.name)
def test_weights_are_the_optimizers_to_the_bit(case: Case, folder: Path) -> None:
    truth = trained(case, folder)
    models = {"": "model."}
    if case.architecture == "electra":
        models = {"": "model.discriminator.", "generator": "model.generator."}
    for place, prefix in models.items():
        for name, value in exported(case, folder, place).items():
            assert value.dtype == torch.float32
            assert torch.equal(value, truth[prefix + name]), name


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_without_zero_too(precision: str, folder: Path) -> None:
    case = Case(0, precision)
    module = torch.load(folder / f"module-{case.name}-0")
    found = exported(case, folder)
    computed = torch.bfloat16 if precision == "bf16" else torch.float32
    for name, value in found.items():
        assert torch.equal(value.to(computed), module[f"model.{name}"]), name
    rounded = all(torch.equal(value.bfloat16().float(), value) for value in found.values())
    assert not rounded


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_transformers_reads_it(case: Case, folder: Path) -> None:
    place = folder / _draft(case, folder).place
    kind: Any = AutoModelForCausalLM if case.architecture == "llama" else AutoModel
    model, notes = kind.from_pretrained(place, output_loading_info=True)
    assert not notes["missing_keys"]
    assert model.dtype == torch.float32
    if case.architecture == "llama":
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert not notes["unexpected_keys"]
