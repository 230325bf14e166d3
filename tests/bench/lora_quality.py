"""LoRA beside full fine-tuning: MiniLM on the film reviews of sentiment.py, the accuracy of three
seeds of either (each repeat is another) on the same rows, at the learning rate that is best on
others.

Ten trainings by raymill's own loop in one fresh process; some ten minutes on two cores.
"""

import functools
import itertools
import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.runs.progress import Silent
from tests.bench import minilm, sentiment, steady

RATES = {"full": (1e-4, 2e-4), "lora": (1e-3, 2e-3)}
TRAIN, CHOICE, TEST = 2_000, 1_000, 3_000
"""Rows to learn, to choose the learning rate by, and to be tested on."""
SEEDS = range(17, 17 + sentiment.SEEDS)

Rows = Sequence[dict[str, str]]


def accuracies(rank: int, workers: int, folder: Path) -> dict[str, list[float]]:
    """By method, of each seed on the rows of the test."""
    import torch
    import torch.distributed as dist

    store = dist.FileStore(str(folder / "store"), 1)
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    torch.set_num_threads(steady.THREADS)
    rows = [*{row["text"]: row for row in sentiment.rows(folder)}.values()]
    random.Random(17).shuffle(rows)
    train, choice, test = rows[:TRAIN], rows[-CHOICE:], rows[TRAIN : TRAIN + TEST]
    chosen, tested = (_examples(folder, train, some) for some in (choice, test))
    found = {}
    for method, rates in RATES.items():
        by_rate = {rate: _accuracy(chosen, method, rate, SEEDS[0]) for rate in rates}
        best = max(by_rate, key=lambda rate: by_rate[rate])
        found[method] = [_accuracy(tested, method, best, seed) for seed in SEEDS]
        print(f"{method}: {by_rate}, then {found[method]}", file=sys.stderr)
    dist.destroy_process_group()
    return found


def _accuracy(examples: Any, method: str, rate: float, seed: int) -> float:
    from trainers.engine import loop
    from trainers.engine.job import TrainJob
    from trainers.models.build import Start
    from trainers.tasks.classify.spec import Classify
    from trainers.tasks.classify.task import ClassifyTask

    settings = Classify.model_validate(
        {
            "method": method,
            "max_length": 64,
            "batch_size": 32,
            "micro_batch_size": 32,
            "learning_rate": rate,
            "warmup": 0.1,
            "epochs": 3,
            "workers": 1,
            "cpus_per_worker": steady.THREADS,
            "zero": {"stage": 0},
        }
    )
    task = ClassifyTask(settings, examples, Start(base=minilm.base()), minilm.base())
    accuracy: float = loop.train(TrainJob(lambda: task, settings, seed), Silent())["accuracy"]
    return accuracy


def _examples(folder: Path, train: Rows, validation: Rows) -> Any:
    """As the stage `examples` leaves them."""
    import pyarrow as pa

    from cluster.store import artifacts
    from cluster.store.storage import Storage
    from trainers.corpora.tokens.pack import write_arrow

    labels = sorted({row["label"] for row in train})
    counts = {one: {"train": sum(row["label"] == one for row in train)} for one in labels}
    storage = Storage.at(str(folder / f"mill-{len(validation)}"))
    with artifacts.drafting(storage, "examples/films-examples-00") as draft:
        with draft.folder() as written:
            write_arrow(pa.Table.from_pylist([*train]), written / "train.arrow")
            write_arrow(pa.Table.from_pylist([*validation]), written / "validation.arrow")
            (written / "labels.json").write_text(json.dumps(labels), "utf-8")
        told = {"labels": counts, "train": len(train)}
        return draft.publish(recipe="films", stage="examples", parents={}, inputs={}, metrics=told)


seed = itertools.count()
of_both = functools.cache(functools.partial(steady.run_ours, accuracies))


def lora_vs_full() -> tuple[float, float]:
    found, number = of_both(), next(seed) % len(SEEDS)
    return found["lora"][number], found["full"][number]
