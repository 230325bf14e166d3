"""Peak memory of real trainings, each in fresh processes, beside what `raymill plan` says of them.

The parts that decide are all there: architectures and objectives, precisions, ZeRO's stages, one
worker and two, micro-batches and their accumulation, optimizers, offload, activations that are
computed again; adapters beside a frozen base, and conversations that are packed.
"""

import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.ray.session import set_environment
from cluster.recipe.loading import load
from tests.chats import TEMPLATE

BASE = "base"
STEPS = 3
"""AdamW's state is there from the second, and a checkpoint is written beside the third. Then the
model is evaluated and exported."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A short training, by the keys of its recipe."""

    objective: str
    architecture: str
    hidden_size: int
    layers: int
    training: Mapping[str, Any]
    sequence_length: int = 256
    vocabulary_size: int = 8000
    chat: Mapping[str, Any] | None = None
    """Keys of a fine-tuning for chat of such a model, in place of its pretraining."""

    def recipe_in(self, folder: Path, base: Path | None = None) -> Any:
        """`base` is the folder of the model that is tuned, which a plan does without."""
        sizes = {"hidden_size": self.hidden_size, "layers": self.layers}
        model = {"architecture": self.architecture, **sizes, "heads": self.hidden_size // 64}
        model["max_positions"] = max(512, self.sequence_length)
        corpora = {
            "sources": {"none": {"path": "none.jsonl"}},
            "sequence_length": self.sequence_length,
            "tokenizer": {"vocabulary_size": self.vocabulary_size},
        }
        training = {"epochs": STEPS, "learning_rate": 1e-4, "checkpoint_steps": 2, **self.training}
        sections: dict[str, Any] = {"pretrain": {"objective": self.objective, "model": model}}
        if self.chat is None:
            sections["pretrain"] |= training
        else:
            template = folder / "template.jinja"
            template.write_text(TEMPLATE, "utf-8")
            keys = {"task": "chat", "template": str(template), "max_length": self.sequence_length}
            sections["finetune"] = {**keys, **training, **self.chat}
        if base is not None:
            sections["finetune"]["base"] = str(base)
            del sections["pretrain"]
        path = folder / "recipe.yaml"
        path.write_text(json.dumps({"name": "memory", "corpora": corpora, **sections}))
        return load(path)


def _keys(
    precision: str, stage: int, workers: int, micro_batch_size: int, batch_size: int, **keys: Any
) -> dict[str, Any]:
    zero = {"stage": stage, **keys.pop("zero", {})}
    sizes = {"micro_batch_size": micro_batch_size, "batch_size": batch_size}
    return {"precision": precision, "zero": zero, "workers": workers, **sizes, **keys}


LORA = {"method": "lora"}
AGAIN = {"activation_checkpointing": True}
OFFLOAD = {"offload_optimizer": "cpu"}
LARGE_VOCABULARY = Case(
    *("causal_lm", "llama", 256, 4, _keys("bf16", 2, 1, 1, 1)),
    sequence_length=2048,
    vocabulary_size=150_000,
)
# fmt: off
CASES = (
    Case("causal_lm", "llama", 512, 8, _keys("fp32", 0, 1, 4, 4)),
    Case("causal_lm", "llama", 512, 8, _keys("bf16", 0, 1, 4, 4)),
    Case("causal_lm", "llama", 512, 8, _keys("bf16", 1, 1, 4, 8)),
    Case("causal_lm", "llama", 512, 8, _keys("bf16", 2, 2, 4, 8)),
    Case("causal_lm", "llama", 512, 8, _keys("bf16", 3, 2, 4, 8)),
    Case("causal_lm", "llama", 512, 8, _keys("fp32", 2, 2, 2, 4)),
    Case("causal_lm", "gpt2", 384, 6, _keys("bf16", 2, 1, 8, 8), sequence_length=512),
    Case("masked_lm", "bert", 512, 8, _keys("bf16", 2, 1, 16, 16), sequence_length=128),
    Case("masked_lm", "modernbert", 384, 6, _keys("bf16", 2, 2, 8, 16)),
    Case("span_corruption", "t5", 320, 4, _keys("bf16", 2, 1, 8, 8)),
    Case("masked_lm", "roberta", 512, 8, _keys("fp32", 1, 1, 8, 8), sequence_length=128),
    Case("replaced_tokens", "electra", 384, 6, _keys("bf16", 2, 1, 8, 8)),
    Case("causal_lm", "qwen3", 512, 12, _keys("bf16", 2, 1, 2, 4), vocabulary_size=32_000),
    Case("causal_lm", "llama", 512, 8, _keys("bf16", 2, 1, 8, 8, **AGAIN)),
    Case("causal_lm", "llama", 512, 8, _keys("bf16", 3, 1, 4, 4, **AGAIN)),
    Case("causal_lm", "llama", 512, 8, _keys("bf16", 2, 1, 4, 4, optimizer="lion")),
    Case("causal_lm", "llama", 512, 8, _keys("bf16", 0, 1, 4, 4, optimizer="adafactor")),
    Case("causal_lm", "llama", 512, 8, _keys("bf16", 2, 1, 2, 4, zero=OFFLOAD)),
    Case("causal_lm", "llama", 640, 8, _keys("fp32", 3, 2, 2, 4)),
    Case("masked_lm", "bert", 768, 6, _keys("bf16", 1, 2, 4, 16), sequence_length=128),
    LARGE_VOCABULARY,
    Case("causal_lm", "llama", 768, 12, _keys("bf16", 2, 1, 4, 4), chat=LORA),
    Case("causal_lm", "llama", 768, 12, _keys("bf16", 3, 2, 4, 8), chat=LORA),
    Case("causal_lm", "llama", 512, 8, _keys("fp32", 0, 1, 4, 8), chat={**LORA, "packing": False}),
    Case("causal_lm", "llama", 512, 8, _keys("bf16", 2, 1, 8, 8), chat={}),
)
# fmt: on


def plan_error() -> float:
    """The largest error of a planned peak, as a share of the measured one."""
    set_environment()  # of workers: it decides what their heaps keep
    errors = []
    for number, case in enumerate(CASES):
        planned, measured = planned_bytes(case), peak_bytes(case)
        errors.append(planned / measured - 1)
        print(
            f"{number:2} planned {planned / 1e6:6,.0f} MB, measured {measured / 1e6:6,.0f} MB, "
            f"{errors[-1]:+6.1%}  {case}",
            file=sys.stderr,
            flush=True,
        )
    return max(map(abs, errors))


def large_vocabulary_memory() -> tuple[float, float]:
    """Of 2,048 tokens and a vocabulary of 150,000: with the loss in chunks, and of whole logits."""
    set_environment()
    return peak_bytes(LARGE_VOCABULARY), peak_bytes(LARGE_VOCABULARY, has_whole_logits=True)


def planned_bytes(case: Case) -> float:
    from trainers.engine import zero
    from trainers.planning.measures import measure
    from trainers.planning.plan import peak

    with tempfile.TemporaryDirectory(prefix="raymill-") as folder:
        recipe = case.recipe_in(Path(folder))
        section = "pretrain" if case.chat is None else "finetune"
        settings = getattr(recipe, section)
        measures = measure(recipe, section, {}, settings.precision, "cpu")
    sizes = (settings.batch_size, settings.workers, settings.micro_batch_size)
    micro_batch, _ = zero.accumulation(*sizes)
    return peak(settings, measures, settings.precision, micro_batch, on_gpu=False)[1].total


def peak_bytes(case: Case, has_whole_logits: bool = False) -> int:
    """The most resident memory of any of its workers, from their start to their end."""
    workers = case.training["workers"]
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="raymill-") as folder,
        concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn) as pool,
    ):
        if case.chat is not None:
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as other:
                other.submit(_save_base, case, Path(folder)).result()
        given = case, Path(folder), has_whole_logits
        waiting = [pool.submit(_train, *given, rank) for rank in range(workers)]
        return max(one.result() for one in waiting)


def _save_base(case: Case, folder: Path) -> None:
    from trainers.models.build import Start, build
    from trainers.planning.synthetic_corpus import tokenizer

    words = tokenizer(case.vocabulary_size)
    shape = case.recipe_in(folder).pretrain.model
    build(Start(shape=shape), "AutoModelForCausalLM", words).save_pretrained(folder / BASE)
    words.save_pretrained(folder / BASE)


def _train(case: Case, folder: Path, has_whole_logits: bool, rank: int) -> int:
    # What a worker of Ray Train has in memory too.
    import ray.train.torch  # noqa: F401
    import torch.distributed as dist

    from cluster.store.artifacts import Draft
    from cluster.store.storage import Storage
    from tests.fakes import Notes
    from trainers.engine.job import TrainJob
    from trainers.engine.loop import train
    from trainers.models import chunked_loss
    from trainers.planning.synthetic_corpus import corpus
    from trainers.pretrain import task as of_pretraining

    if has_whole_logits:
        chunked_loss.prepare = lambda model: None  # type: ignore[assignment]
    here = folder / f"rank-{rank}"
    here.mkdir()
    recipe = case.recipe_in(here, None if case.chat is None else folder / BASE)
    settings = recipe.pretrain if case.chat is None else recipe.finetune
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(settings.workers))
    store = dist.FileStore(str(folder / "store"), settings.workers)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=settings.workers)
    sizes = (case.vocabulary_size, case.sequence_length, settings.batch_size)
    evaluated = 2 * settings.micro_batch_size * settings.workers
    task: Callable[[], Any]
    if case.chat is None:
        made = corpus(here, *sizes, held_out=evaluated)
        task = functools.partial(of_pretraining, recipe, {"shard": made})
    else:
        task = functools.partial(_of_chat, settings, here, *sizes, evaluated)
    draft = Draft(Storage.at(str(folder)), "model/memory-pretrain-00")
    peaks = [0]
    if settings.adapter is not None:  # which alone imports PEFT
        from trainers.methods import saving

        saving.call_in_plain_process = lambda *call: peaks.append(_peak_with_another(*call))
    train(TrainJob(task, settings, recipe.seed, draft), Notes())
    dist.destroy_process_group()
    return max(resident_bytes("VmHWM"), *peaks)


def _of_chat(
    settings: Any, folder: Path, vocabulary_size: int, length: int, rows: int, evaluated: int
) -> Any:
    """Conversations that are as long as they can be, of which a half is learned."""
    import numpy as np
    import pyarrow as pa

    from cluster.store import artifacts
    from cluster.store.storage import Storage
    from trainers.corpora.tokens.pack import write_arrow
    from trainers.models.build import Start
    from trainers.tasks.chat.task import ChatTask

    ids = np.random.default_rng(17).integers(5, vocabulary_size, (rows, length))
    learned = [np.arange(length) >= length // 2] * rows
    columns = {"input_ids": [*ids], "learned": learned}
    table = pa.table(
        {name: pa.array(columns[name], kind) for name, kind in ChatTask.columns.items()}
    )
    with artifacts.drafting(Storage.at(str(folder)), "rendered/memory-render-00") as draft:
        with draft.folder() as written:
            write_arrow(table, written / "train.arrow")
            write_arrow(table[:evaluated], written / "validation.arrow")
        none = {"train": {"dropped": {}, "noted": {}}}
        made = draft.publish(recipe="memory", stage="render", parents={}, inputs={}, metrics=none)
    return ChatTask(settings, made, Start(base=settings.base), settings.base)


def _peak_with_another(function: Callable[..., None], *arguments: Any) -> int:
    """Of this process together with the one that it starts at the export of an adapter."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        own, other = resident_bytes("VmRSS"), pool.submit(_peak_of, function, *arguments)
        return own + other.result()


def _peak_of(function: Callable[..., None], *arguments: Any) -> int:
    """Of this process. What the system tells of a child counts its parent's before it began."""
    function(*arguments)
    return resident_bytes("VmHWM")


def resident_bytes(line: str) -> int:
    """Of this process: now (VmRSS), or at most so far (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(one.split()[1]) for one in lines if one.startswith(line))
