"""One Llama by raymill's own loop, beside what `raymill plan` says of its memory: pretrained, in
both precisions, at ZeRO's stages and offloaded; and tuned for chat, whole and by adapters.

    python -m tests.gpu.trainings CASE FOLDER [--cpu]           one training, in this process
    python -m tests.gpu.trainings plan-PART FOLDER [--cpu]      the planned memory of all of a part

Prints one JSON object. A training waits for a line on stdin once its imports are done, so that the
next one imports while one trains.
"""

import argparse
import functools
import importlib.util
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.recipe.loading import load
from cluster.runs.progress import Progress
from tests.chats import TEMPLATE
from tests.gpu.sizes import Sizes, sizes

READY = "ready"
PLAN = "plan-"
ZERO = {
    "zero-1": {"stage": 1},
    "zero-2": {"stage": 2},
    "zero-3": {"stage": 3},
    "offload": {"stage": 3, "offload_optimizer": "cpu", "offload_parameters": "cpu"},
}
SCALED = ("zero-2", "zero-3")
"""What is shown of the second precision: its loss scale is in either engine."""
SHORT = ("packed", "padded")
CHATS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"method": "lora"},
    "lora-zero-3": {"method": "lora", "zero": {"stage": 3}},
    "lora-4-bit": {"method": {"name": "lora", "base_bits": 4}},
    # Of conversations as they come, twice as many at once; their tokens are counted, not padding.
    "packed": {"method": "lora"},
    "padded": {"method": "lora", "packing": False},
}
GB = 1e9


def cases(part: str, chosen: Sizes) -> list[str]:
    if part == "adapters":
        return [*CHATS]
    first, second = chosen.precisions
    return [*(f"{first}-{zero}" for zero in ZERO), *(f"{second}-{zero}" for zero in SCALED)]


def recipe_of(case: str, folder: Path, chosen: Sizes) -> Any:
    length = chosen.sequence_length
    shape = {"architecture": "llama", "max_positions": length, **chosen.llama}
    corpora = {
        "sources": {"none": {"path": "none.jsonl"}},
        "sequence_length": length,
        "tokenizer": {"vocabulary_size": chosen.vocabulary_size},
    }
    together = 2 if case in SHORT else 1
    training: dict[str, Any] = {
        "batch_size": chosen.batch_size * together,
        "micro_batch_size": chosen.micro_batch_size * together,
        "learning_rate": 2e-4,
        "epochs": 1000,
        "max_minutes": chosen.train_minutes,
        "workers": 1,
        "cpus_per_worker": chosen.cpus,
        "gpus_per_worker": chosen.gpus,
    }
    pretrain: dict[str, Any] = {"objective": "causal_lm", "model": shape}
    sections: dict[str, Any] = {"pretrain": pretrain}
    if case in CHATS:
        template = folder / "template.jinja"
        template.write_text(TEMPLATE, "utf-8")
        sections["finetune"] = {
            **training,
            "task": "chat",
            "template": str(template),
            "max_length": length,
            "overlong": "keep_start",
            "precision": chosen.precisions[0],
            **CHATS[case],
        }
    else:
        precision, _, zero = case.partition("-")
        pretrain |= {**training, "precision": precision, "zero": ZERO[zero]}
    path = folder / f"{case}.yaml"
    path.write_text(json.dumps({"name": "gpu", "corpora": corpora, **sections}))
    return load(path, workspace=str(folder))


def not_possible(case: str) -> str | None:
    """Why a case is left out on this machine."""
    if case != "lora-4-bit" or importlib.util.find_spec("bitsandbytes") is not None:
        return None
    return "bitsandbytes is not installed"


class Followed(Progress):
    """Remembers what training shows of its speed."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []

    def line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def update(self, done: float, total: float, unit: str, **metrics: Any) -> None:
        self.shown.append(metrics)


def drawn_on_gpu(model: Callable[[], Any]) -> Any:
    """A model on the CPU, as training expects it, whose random weights a GPU draws: a CPU takes ten
    seconds for a billion of them, as long as each of these trainings."""
    import torch

    with torch.device("cuda"):
        drawn = model()
    drawn = drawn.cpu()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return drawn


def trained(case: str, folder: Path, chosen: Sizes) -> dict[str, Any]:
    """Trains, and tells how fast and with how much memory; the first step is not counted."""
    import torch
    import torch.distributed as dist

    from tests.gpu.packed_corpus import corpus
    from tests.gpu.rendered_chats import chat_task
    from trainers.engine.job import JournalConfig, TrainJob
    from trainers.launch.training import alone
    from trainers.pretrain import task

    recipe = recipe_of(case, folder, chosen)
    for name in ("trainers.engine.loop", "trainers.methods.saving"):  # and all that they import
        importlib.import_module(name)
    print(READY, flush=True)
    sys.stdin.readline()
    progress, journal = Followed(), JournalConfig("gpu", time.time(), ())
    settings: Any = recipe.finetune or recipe.pretrain

    def made() -> Any:
        if recipe.finetune is None:
            learned: Any = task(recipe, {"shard": corpus(folder, chosen)})
        else:
            is_full = case not in SHORT
            learned = chat_task(folder, chosen, settings, recipe.pretrain.model, is_full)
        if chosen.gpus:
            on_gpu = functools.partial(drawn_on_gpu, learned.model)
            object.__setattr__(learned, "model", on_gpu)  # tasks are frozen
        return learned

    job = TrainJob(made, settings, 17, journal=journal)
    metrics = alone(job, progress)
    if chosen.gpus:
        peak = float(torch.cuda.max_memory_allocated())
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    dist.destroy_process_group()
    fast = [line for line in progress.shown if "tokens_per_second" in line]
    speeds, shares = ([line[name] for line in fast] for name in ("tokens_per_second", "mfu"))
    return {
        "steps": metrics["steps"],
        "loss": round(metrics["loss"], 3),
        "precision": metrics["precision"],
        "tokens_per_second": round(statistics.median(speeds)) if speeds else None,
        "mfu": round(statistics.median(shares), 3) if shares else None,
        "peak_gb": round(peak / GB, 2),
        "parameters": metrics["parameters"],
        **({"trained": metrics["trained_parameters"]} if "trained_parameters" in metrics else {}),
    }


def planned(part: str, folder: Path, chosen: Sizes) -> dict[str, float]:
    """GB of each case at its worst moment; of a GPU without its context, which torch counts not.
    Of rows as long as they can be: short ones have none."""
    from trainers.engine.zero import accumulation
    from trainers.planning.measures import measure
    from trainers.planning.plan import peak

    on_gpu, memory, known = bool(chosen.gpus), dict[str, float](), dict[Any, Any]()
    folder = folder / part  # beside a training that reads its own recipe
    folder.mkdir(exist_ok=True)
    for case in cases(part, chosen):
        if case in SHORT or not_possible(case):
            continue
        recipe = recipe_of(case, folder, chosen)
        section = "pretrain" if recipe.finetune is None else "finetune"
        settings = getattr(recipe, section)
        precision, method = settings.precision, str(settings.adapter)
        if (precision, method) not in known:  # stages of ZeRO compute the same
            device = "cuda" if on_gpu else "cpu"
            known[precision, method] = measure(recipe, section, {}, precision, device)
        size, _ = accumulation(settings.batch_size, 1, settings.micro_batch_size)
        _, most = peak(settings, known[precision, method], precision, size, on_gpu)
        bytes_ = most.total - (most.framework if on_gpu else 0.0)
        memory[case] = round(bytes_ / GB, 2)
    return memory


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.trainings")
    parser.add_argument("case")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    chosen = sizes(options.cpu)
    refused = not_possible(options.case)
    if options.case.startswith(PLAN):
        part = options.case.removeprefix(PLAN)
        print(json.dumps(planned(part, options.folder, chosen)))
    elif refused is not None:
        print(json.dumps({"left_out": refused}))
    else:
        print(json.dumps(trained(options.case, options.folder, chosen)))


if __name__ == "__main__":
    main()
