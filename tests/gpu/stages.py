"""A recipe on GPUs by raymill's own commands, with a Ray each: pretraining whose worker is killed,
fine-tuning on a half of the GPU, evaluation, scoring by two workers that share it, and an endpoint
that answers; and an adapter of a model that chats, to the answers that it writes.

    python -m tests.gpu.stages pretrain|finetune|evaluate|score|serve|chat FOLDER [--cpu]

Each goes on from what those before left in the folder, and makes what is missing. Prints one JSON
object, or raises with what the command said.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.chats import TEMPLATE, dialogue
from tests.gpu.sizes import Sizes, sizes
from tests.gpu.texts import labelled
from tests.integration.command import Command, free_port

NAME = "gpu"
DIALOGUES = 400
OF_TRAINING = "ray::_task"
"""What Ray calls the process of a training of one worker."""


def recipe(folder: Path, chosen: Sizes) -> str:
    """Its file, beside the rows that it learns from."""
    path, rows = folder / "recipe.yaml", folder / "rows.jsonl"
    if path.exists():
        return str(path)
    rows.write_text(as_lines(labelled(chosen.rows)), "utf-8")
    training = {"batch_size": 64, "micro_batch_size": 64, "workers": 1}
    length = 128
    model = {"architecture": "bert", "max_positions": length, **chosen.encoder}
    keys: dict[str, Any] = {
        "name": NAME,
        "cluster": {"trackers": []},
        "corpora": {
            "sources": {"rows": {"path": str(rows), "columns": {"label": "label"}}},
            "tokenizer": {"vocabulary_size": 8000},
            "sequence_length": length,
        },
        "pretrain": {
            **training,
            "model": model,
            "learning_rate": 1e-3,
            "epochs": 1000,
            "max_minutes": 3 * chosen.train_minutes,
            "checkpoint_steps": chosen.checkpoint_steps,
            "gpus_per_worker": chosen.gpus,
        },
        "finetune": {
            **training,
            "task": "classify",
            "learning_rate": 3e-4,
            "max_length": length,
            "epochs": 2,
            "gpus_per_worker": chosen.gpus / 2,
            "evaluation": {"ngram": False},
        },
        "serve": {"gpus_per_replica": chosen.gpus / 2, "port": free_port()},
    }
    path.write_text(json.dumps(keys), "utf-8")
    return str(path)


def as_lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@contextlib.contextmanager
def command(verb: str, folder: Path, *arguments: str) -> Iterator[Command]:
    """One that runs; leaving the block ends all that it started."""
    started = Command(verb, *arguments, "--workspace", str(folder / "mill"))
    try:
        yield started
    finally:
        started.end()


def answer(running: Command) -> tuple[dict[str, Any], str]:
    """What a command printed, and what it said, once it ends well."""
    outcome = running.wait()
    if outcome.status != 0:
        raise RuntimeError(outcome.answer.get("error") or outcome.stderr[-2000:])
    return outcome.answer, outcome.stderr


def pretrain(folder: Path, chosen: Sizes) -> dict[str, Any]:
    """Loses its worker behind a checkpoint, and goes on from there."""
    with command("pretrain", folder, recipe(folder, chosen)) as running:
        running.until(lambda: list(folder.glob("mill/work/*-pretrain-*/step-*/record.json")))
        (worker,) = running.titled(OF_TRAINING)
        os.kill(worker, signal.SIGKILL)
        killed = time.monotonic()
        ledger = next(folder.glob("mill/work/*-pretrain-*/ledger.jsonl"))
        running.until(lambda: ledger.read_text("utf-8").count('"start"') > 1)
        restart_s = time.monotonic() - killed
        made, said = answer(running)
    resumed = [line for line in said.splitlines() if "resumes from checkpoint" in line]
    assert "a worker was lost" in said, said
    assert resumed, said
    return {**figures(made), "restart_s": round(restart_s, 1), "resumed": resumed[-1].split()[-1]}


def finetune(folder: Path, chosen: Sizes) -> dict[str, Any]:
    with command("finetune", folder, recipe(folder, chosen)) as running:
        return figures(answer(running)[0])


def evaluate(folder: Path, chosen: Sizes) -> dict[str, Any]:
    with command("evaluate", folder, recipe(folder, chosen)) as running:
        stage = answer(running)[0]["stages"][-1]
    return {"test_accuracy": round(stage["metrics"]["test"]["accuracy"], 4), "s": stage["seconds"]}


def score(folder: Path, chosen: Sizes) -> dict[str, Any]:
    """By workers on a half of the GPU each; every row has its answer once."""
    if not list(folder.glob(f"mill/model/{NAME}-finetune-*/manifest.json")):
        finetune(folder, chosen)
    to_score, out, texts = folder / "to-score.jsonl", folder / "scored", labelled(chosen.rows)
    wanted = (texts * (1 + chosen.scored // len(texts)))[: chosen.scored]
    to_score.write_text(as_lines(wanted), "utf-8")
    places, half = (str(to_score), str(out)), f"{chosen.gpus / 2:g}"
    options = ("--workers", "2", "--gpus-per-worker", half)
    began = time.monotonic()
    with command("score", folder, NAME, *places, *options) as running:
        made, said = answer(running)
    seconds = time.monotonic() - began
    assert (made["rows"], made["failures"]) == (len(wanted), {}), made
    rows = pq.read_table(out, columns=["label", "prediction_label"])
    assert rows.num_rows == len(wanted)
    told = re.findall(r"rows/s ([\d,.]+)", said) or [f"{len(wanted) / seconds}"]
    (workers,) = re.findall(r"score: (.* workers? x .*),", said)
    return {
        "rows": rows.num_rows,
        "workers": workers,
        "accuracy": round(pc.mean(pc.equal(*rows.columns).cast("int8")).as_py(), 4),
        "rows_per_second": round(float(told[-1].replace(",", ""))),
    }


def serve(folder: Path, chosen: Sizes) -> dict[str, Any]:
    with command("serve", folder, recipe(folder, chosen), "--no-hold") as running:
        endpoint = answer(running)[0]["endpoint"]
    return {"url": endpoint["url"], "label": endpoint["smoke"]["predictions"][0]["label"]}


def chat(folder: Path, chosen: Sizes) -> dict[str, Any]:
    """LoRA on a half of the GPU, read again behind its gate, and what it and its base write."""
    with command("evaluate", folder, chat_recipe(folder, chosen)) as running:
        made = answer(running)[0]
    *_, trained, tested = made["stages"]
    of_test = tested["metrics"]["test"]
    return {
        **figures({"stages": [trained]}),
        "test_loss": round(of_test["loss"], 4),
        "ended": round(of_test["ended"], 4),
        "s": tested["seconds"],
    }


def chat_recipe(folder: Path, chosen: Sizes) -> str:
    """Its file, beside the conversations and a base of random weights."""
    rows, base, path = (folder / name for name in ("chats.jsonl", "base", "chat.yaml"))
    rows.write_text(as_lines([dialogue(number) for number in range(DIALOGUES)]), "utf-8")
    save_base(base, folder, chosen)
    keys = {
        "name": "gpu-chat",
        "cluster": {"trackers": []},
        "corpora": {"sources": {"chats": {"path": str(rows)}}},
        "finetune": {
            "task": "chat",
            "base": str(base),
            "method": {"name": "lora", "dropout": 0.0},
            "max_length": 128,
            "most_new_tokens": 16,
            "batch_size": 8,
            "learning_rate": 1e-2,
            "epochs": 4,
            "workers": 1,
            "gpus_per_worker": chosen.gpus / 2,
        },
    }
    path.write_text(json.dumps(keys), "utf-8")
    return str(path)


def save_base(base: Path, folder: Path, chosen: Sizes) -> None:
    """A causal model of the encoder's size, with a chat template."""
    import torch

    from tests.gpu.packed_corpus import corpus
    from trainers.corpora.tokens import tokenizer as tokenizers
    from trainers.models.build import Start, build
    from trainers.models.shape import Shape

    torch.manual_seed(17)
    tokenizer = tokenizers.load(corpus(folder, chosen).path / "tokenizer")
    tokenizer.chat_template = TEMPLATE
    shape = Shape(architecture="llama", **chosen.encoder)
    build(Start(shape=shape), "AutoModelForCausalLM", tokenizer).save_pretrained(base)
    tokenizer.save_pretrained(base)


def figures(made: dict[str, Any]) -> dict[str, Any]:
    """Of the last stage's training."""
    metrics = made["stages"][-1]["metrics"]
    names = ("precision", "steps", "loss", "accuracy", "tokens_per_second", "mfu")
    known = {name: metrics[name] for name in names if name in metrics}
    return {name: round(one, 4) if isinstance(one, float) else one for name, one in known.items()}


STAGES: dict[str, Callable[[Path, Sizes], dict[str, Any]]] = {
    function.__name__: function for function in (pretrain, finetune, evaluate, score, serve, chat)
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.stages")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # with what it started
    print(json.dumps(STAGES[options.stage](options.folder, sizes(options.cpu))))


if __name__ == "__main__":
    main()
