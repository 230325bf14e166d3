"""What a checkpoint every 20 steps costs: a 17 M Llama, 8 x 512 tokens a step, bf16 and ZeRO-2, on
one core, so that the thread that writes takes its time from the training.

Steps with a checkpoint are between steps without, on one engine, so that a machine that comes to be
slower or faster meanwhile makes no difference. A repeat takes about four minutes.
"""

import functools
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from cluster.store.artifacts import Draft
from cluster.store.storage import Storage
from tests.bench.harness import Metric, main
from tests.fakes import Notes
from trainers.checkpoints import optimizer_fragments
from trainers.checkpoints.saving import Checkpoints
from trainers.checkpoints.state import LoopState
from trainers.engine import zero
from trainers.engine.training_config import Training

STEPS, BATCH, LENGTH = 20, 8, 512


@functools.cache
def engine() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_WORLD_SIZE="1")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=8192,
            hidden_size=384,
            intermediate_size=1024,
            num_hidden_layers=6,
            num_attention_heads=6,
            max_position_embeddings=LENGTH,
        )
    )
    settings = Training(batch_size=BATCH, micro_batch_size=BATCH, precision="bf16")
    made = zero.engine(model, settings)
    steps(made, 2)
    return made


def steps(engine: Any, number: int) -> float:
    """Seconds of so many steps."""
    ids = torch.randint(0, 8192, (BATCH, LENGTH))
    began = time.monotonic()
    for _ in range(number):
        engine.backward(engine(input_ids=ids, labels=ids).loss)
        engine.step()
    return time.monotonic() - began


def checkpoint_cost() -> float:
    """The share of the throughput that is lost."""
    with tempfile.TemporaryDirectory() as folder:
        draft = Draft(Storage.at(folder), "model/bench")
        with Checkpoints(engine(), draft, 2, Notes()) as checkpoints:
            before = steps(engine(), STEPS)
            began = time.monotonic()
            checkpoints.save(LoopState(step=1))
            steps(engine(), STEPS)
            within = time.monotonic() - began
            after = steps(engine(), STEPS)
    return 1 - (before + after) / 2 / within


def checkpoint_stall_s() -> tuple[float, float]:
    """What a step waits, beside what it would for DeepSpeed's own checkpoint."""
    folder = Path(tempfile.mkdtemp())
    try:
        with Checkpoints(
            engine(), Draft(Storage.at(str(folder)), "model/bench"), 2, Notes()
        ) as one:
            began = time.monotonic()
            one.save(LoopState(step=1))
            ours = time.monotonic() - began
        began = time.monotonic()
        engine().save_checkpoint(str(folder / "deepspeed"), tag="state")
        return ours, time.monotonic() - began
    finally:
        shutil.rmtree(folder)


def megabytes() -> float:
    return sum(tensor.nbytes for tensor in optimizer_fragments.snapshot(engine()).values()) / 1e6


# fmt: off
METRICS = (
    Metric("checkpoint_cost", "share of the time", checkpoint_cost, "< 0.03"),
    Metric("checkpoint_stall", "x seconds", checkpoint_stall_s, "", "DeepSpeed's save_checkpoint"),
    Metric("checkpoint_size", "MB", megabytes),
)
# fmt: on

if __name__ == "__main__":
    main("checkpoints", METRICS, ("torch", "deepspeed", "transformers"))
