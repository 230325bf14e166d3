"""Steady speed of training a 17 M Llama on two cores: raymill's loop, a loop written by hand, and
the Hugging Face Trainer, each in fresh processes.

All compute in bf16 with fp32 weights for the optimizer (fused AdamW), and compile the model with
its loss; the gradient is clipped. Ours runs in the environment that raymill gives its workers, the
others in the user's. The others see a whole sequence as one document and mask by
`is_causal`, without the masks of packing, which is less work than ours.
"""

import concurrent.futures
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cluster.ray.session import set_environment

THREADS = 2
VOCABULARY, LENGTH, BATCH = 8192, 512, 8
MODEL = {
    "architecture": "llama",
    "hidden_size": 384,
    "layers": 6,
    "heads": 6,
    "max_positions": LENGTH,
    "config": {"tie_word_embeddings": False},
}
WARM, STEPS = 5, 20
"""Steps that are not timed: the first compile; and all."""


class Times:
    """When which step was done."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, int]] = []

    def line(self, text: str) -> None: ...

    def update(self, done: float, total: float, unit: str, **metrics: Any) -> None:
        self.steps.append((time.perf_counter(), metrics["step"]))

    @property
    def tokens_per_second(self) -> float:
        timed = [(at, step) for at, step in self.steps if step >= WARM]
        (began, first), (ended, last) = timed[0], timed[-1]
        return (last - first) * BATCH * LENGTH / (ended - began)


def run(worker: Callable[..., Any], workers: int = 1, *arguments: Any) -> Any:
    """What rank 0 returns of `worker(rank, workers, folder, *arguments)` in fresh processes."""
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="raymill-") as folder,
        concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn) as pool,
    ):
        given = (workers, Path(folder), *arguments)
        waiting = [pool.submit(worker, rank, *given) for rank in range(workers)]
        found = [one.result() for one in waiting]
    return found[0]


def run_ours(worker: Callable[..., Any], workers: int = 1, *arguments: Any) -> Any:
    """The same in the environment that raymill gives its workers."""
    own = dict(os.environ)
    set_environment()
    try:
        return run(worker, workers, *arguments)
    finally:
        os.environ.clear()
        os.environ.update(own)


def ours(rank: int, workers: int, folder: Path, stage: int, **keys: Any) -> dict[str, float]:
    """`tokens_per_second`, and the share of `data_wait`; the two cores shared by the workers."""
    import torch.distributed as dist

    from trainers.engine import journal, loop
    from trainers.engine.job import TrainJob
    from trainers.models.build import Start
    from trainers.planning.synthetic_corpus import corpus
    from trainers.tasks.pretraining.causal_lm import CausalLM
    from trainers.tasks.pretraining.config import Pretrain

    journal.INTERVAL_S = 0.0
    loop.evaluate = lambda *_: {"loss": 0.0}  # type: ignore[assignment]  # after the last step
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(workers))
    store = dist.FileStore(str(folder / "store"), workers)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers)
    settings = Pretrain.model_validate(
        {
            "objective": "causal_lm",
            "model": MODEL,
            "batch_size": BATCH,
            "micro_batch_size": BATCH // workers,
            "epochs": 1,
            "precision": "bf16",
            "compile": True,
            "workers": workers,
            "cpus_per_worker": THREADS // workers,
            "zero": {"stage": stage},
            **keys,
        }
    )
    made = corpus(folder / f"rank-{rank}", VOCABULARY, LENGTH, rows=BATCH * STEPS)
    times = Times()
    task = CausalLM(made, Start(shape=settings.model), 17, 1)
    found = loop.train(TrainJob(lambda: task, settings, 17), times)
    dist.destroy_process_group()
    speed = times.tokens_per_second if rank == 0 else 0.0
    return {"tokens_per_second": speed, "data_wait": found["data_wait"]}


def by_hand(rank: int, workers: int, folder: Path) -> float:
    import torch

    torch.set_num_threads(THREADS)
    model = _model(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    step_model = torch.compile(model)
    times = Times()
    for number, ids in enumerate(_batches(), 1):
        with torch.autocast("cpu", torch.bfloat16):
            loss = step_model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.update(number, STEPS, "steps", step=number)
    return times.tokens_per_second


def hugging_face(rank: int, workers: int, folder: Path) -> float:
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    torch.set_num_threads(THREADS)
    times = Times()

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            times.update(0, STEPS, "steps", step=state.global_step)

    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH,
        max_steps=STEPS,
        learning_rate=1e-3,
        bf16=True,
        use_cpu=True,
        torch_compile=True,
        optim="adamw_torch_fused",
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    rows = [{"input_ids": row, "labels": row} for ids in _batches() for row in ids]
    Trainer(_model(folder), arguments, train_dataset=rows, callbacks=[Clock()]).train()  # type: ignore[arg-type]
    return times.tokens_per_second


def peak_flops(rank: int, workers: int, folder: Path) -> float:
    """Of matrix products in bf16 on both cores."""
    import torch

    from trainers.engine.flops import measured_peak

    torch.set_num_threads(THREADS)
    return measured_peak("cpu", "bf16", THREADS)


def flops_of_a_token() -> float:
    """Forward and back, by the trace of the model and its loss."""
    import numpy as np
    import torch

    from trainers.models.build import Start
    from trainers.models.shape import Shape
    from trainers.planning.synthetic_corpus import corpus
    from trainers.planning.tracing import trace
    from trainers.tasks.pretraining.causal_lm import CausalLM
    from trainers.tasks.task import Objective

    with tempfile.TemporaryDirectory(prefix="raymill-") as folder:
        made = corpus(Path(folder), VOCABULARY, LENGTH, rows=BATCH)
        task = CausalLM(made, Start(shape=Shape.model_validate(MODEL)), 17, 1)
        with torch.device("meta"):
            objective = Objective(task.model(), task)
        rows = task.rows("train").take(np.arange(BATCH))
        found = trace(objective, task.collate(rows, range(BATCH)), torch.bfloat16)
    return found.flops / (BATCH * LENGTH)


def _model(folder: Path) -> Any:
    from trainers.models.build import Start, build
    from trainers.models.shape import Shape
    from trainers.planning.synthetic_corpus import tokenizer

    return build(
        Start(shape=Shape.model_validate(MODEL)), "AutoModelForCausalLM", tokenizer(VOCABULARY)
    ).train()


def _batches() -> Sequence[Any]:
    import torch

    torch.manual_seed(17)
    return [torch.randint(5, VOCABULARY, (BATCH, LENGTH)) for _ in range(STEPS)]
