"""One Llama by raymill's own loop in both precisions, at each ZeRO stage and offloaded, beside what
`raymill plan` says of its memory.

    python -m tests.gpu.trainings CASE FOLDER [--cpu]     one training, in this process
    python -m tests.gpu.trainings plan FOLDER [--cpu]     the planned memory of all

Prints one JSON object. A training waits for a line on stdin once its imports are done, so that the
next one imports while one trains.
"""

import argparse
import functools
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
from tests.gpu.sizes import Sizes, sizes

READY = "ready"
ZERO = {
    "zero-1": {"stage": 1},
    "zero-2": {"stage": 2},
    "zero-3": {"stage": 3},
    "offload": {"stage": 3, "offload_optimizer": "cpu", "offload_parameters": "cpu"},
}
GB = 1e9


def cases(chosen: Sizes) -> list[str]:
    """Both precisions at each stage, and with all offloaded."""
    return [f"{precision}-{zero}" for precision in chosen.precisions for zero in ZERO]


def recipe_of(case: str, folder: Path, chosen: Sizes) -> Any:
    precision, _, zero = case.partition("-")
    pretrain: dict[str, Any] = {
        "objective": "causal_lm",
        "model": {
            "architecture": "llama",
            "max_positions": chosen.sequence_length,
            **chosen.llama,
        },
        "batch_size": chosen.batch_size,
        "micro_batch_size": chosen.micro_batch_size,
        "learning_rate": 2e-4,
        "epochs": 1000,
        "max_minutes": chosen.train_minutes,
        "precision": precision,
        "zero": ZERO[zero],
        "workers": 1,
        "cpus_per_worker": chosen.cpus,
        "gpus_per_worker": chosen.gpus,
    }
    corpora = {
        "sources": {"none": {"path": "none.txt"}},
        "sequence_length": chosen.sequence_length,
        "tokenizer": {"vocabulary_size": chosen.vocabulary_size},
    }
    path = folder / f"{case}.yaml"
    path.write_text(json.dumps({"name": "gpu", "corpora": corpora, "pretrain": pretrain}))
    return load(path, workspace=str(folder))


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
    from trainers.engine.job import JournalConfig, TrainJob
    from trainers.launch.training import alone
    from trainers.pretrain import task

    recipe, shards = recipe_of(case, folder, chosen), corpus(folder, chosen)
    print(READY, flush=True)
    sys.stdin.readline()
    progress, journal = Followed(), JournalConfig("gpu", time.time(), ())

    def made() -> Any:
        learned: Any = task(recipe, {"shard": shards})
        if chosen.gpus:
            learned.model = functools.partial(drawn_on_gpu, learned.model)
        return learned

    job = TrainJob(made, recipe.pretrain, 17, journal=journal)
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
    }


def planned(folder: Path, chosen: Sizes) -> dict[str, float]:
    """GB of each case at its worst moment; of a GPU without its context, which torch counts not."""
    from trainers.engine.zero import accumulation
    from trainers.planning.measures import measure
    from trainers.planning.plan import peak

    on_gpu, memory = bool(chosen.gpus), {}
    folder = folder / "plan"  # beside a training that reads its own recipe
    folder.mkdir(exist_ok=True)
    for precision in chosen.precisions:
        measures = None
        for zero in ZERO:
            recipe = recipe_of(f"{precision}-{zero}", folder, chosen)
            settings, device = recipe.pretrain, "cuda" if on_gpu else "cpu"
            measures = measures or measure(recipe, "pretrain", {}, precision, device)
            size, _ = accumulation(settings.batch_size, 1, settings.micro_batch_size)
            _, most = peak(settings, measures, precision, size, on_gpu)
            bytes_ = most.total - (most.framework if on_gpu else 0.0)
            memory[f"{precision}-{zero}"] = round(bytes_ / GB, 2)
    return memory


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.trainings")
    parser.add_argument("case")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    chosen = sizes(options.cpu)
    if options.case == "plan":
        print(json.dumps(planned(options.folder, chosen)))
    else:
        print(json.dumps(trained(options.case, options.folder, chosen)))


if __name__ == "__main__":
    main()
