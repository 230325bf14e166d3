"""Packed rows never see each other: the loss of packed documents is that of a document a row, and
of packed conversations that of padded ones; by the block-diagonal mask and by attention over their
bounds, which on GPUs is flash attention.

    python -m tests.gpu.packing FOLDER [--cpu]

Prints one JSON object by way of attention: the losses, their relative difference, and the speed.
Raises AssertionError where they differ.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.chats import TEMPLATE
from tests.gpu.packed_corpus import corpus
from tests.gpu.rendered_chats import chat_task
from tests.gpu.sizes import Sizes, sizes
from trainers.corpora.tokens.pack import pack_documents
from trainers.models import packed_attention
from trainers.models.build import Start
from trainers.models.devices import own_device
from trainers.models.shape import Shape
from trainers.tasks.chat.spec import Chat
from trainers.tasks.pretraining.causal_lm import CausalLM

ROWS = 4
CHATS = 64
TOGETHER = 16
"""Of these."""
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-3}
"""Of the mean loss, relative: what sums in another order come to."""

Way = tuple[Any, Any, int]
"""A task, its rows, and how many of them go through a model together."""


def compared(folder: Path, chosen: Sizes) -> dict[str, Any]:
    device = own_device(chosen.gpus)
    shape = Shape(architecture="llama", max_positions=chosen.sequence_length, **chosen.packed)
    torch.manual_seed(17)
    task = CausalLM(corpus(folder, chosen), Start(shape=shape), 17, 1.0)
    model: Any = task.model().to(device).eval()
    pairs = {
        "documents": documents(task, chosen.sequence_length),
        "conversations": conversations(folder, chosen, shape),
    }

    def outcomes() -> dict[str, Any]:
        return {what: outcome(model, *ways) for what, ways in pairs.items()}

    found, precision = {"fp32 by mask": outcomes()}, "fp32"
    if device.type == "cuda":
        model, precision = model.to(torch.bfloat16), "bf16"
        found["bf16 by mask"] = outcomes()
    packed_attention.prepare(model, device, precision)
    assert packed_attention.is_used(model), "this GPU has no flash attention"
    found[f"{precision} by bounds"] = outcomes()
    return found


def documents(task: CausalLM, length: int) -> tuple[Way, Way]:
    """Packed as in a corpus, and each alone."""
    rows = task.rows("train")
    every = rows.take(np.arange(len(rows)))
    packed = sorted(every, key=lambda row: -len(row["piece_lengths"]))[:ROWS]
    assert all(len(row["piece_lengths"]) > 1 for row in packed), "there is nothing to keep apart"
    return (task, packed, ROWS), (task, alone(packed, length, task.tokenizer()), ROWS)


def conversations(folder: Path, chosen: Sizes, shape: Shape) -> tuple[Way, Way]:
    """Packed and padded, as they are trained on."""
    template = folder / "packing.jinja"
    template.write_text(TEMPLATE, "utf-8")
    keys = {"template": str(template), "max_length": chosen.sequence_length}

    def way(packing: bool) -> Way:
        settings = Chat.model_validate({**keys, "overlong": "keep_start", "packing": packing})
        task = chat_task(folder, chosen, settings, shape, full=False)
        rows = task.rows("train")
        return task, rows.take(np.arange(min(CHATS, len(rows)))), TOGETHER

    return way(True), way(False)


def alone(rows: list[dict[str, Any]], length: int, tokenizer: Any) -> list[dict[str, Any]]:
    """Every document of packed rows in a row of its own, padded."""
    single = []
    for row in rows:
        for piece in np.split(row["input_ids"], np.cumsum(row["piece_lengths"]))[:-1]:
            tokens = np.asarray(piece[1:-1], dtype=np.uint32)
            begin, end = int(piece[0]), int(piece[-1])
            pad, vocabulary = tokenizer.pad_token_id, len(tokenizer)
            table = pack_documents([tokens], begin, end, length, pad, vocabulary)
            ids = table["input_ids"][0].values.to_numpy()
            single.append({"input_ids": ids, "piece_lengths": [len(piece)]})
    return single


def outcome(model: Any, packed: Way, padded: Way) -> dict[str, Any]:
    loss, seconds = mean_loss(model, *packed)
    unpacked, unpacked_seconds = mean_loss(model, *padded)
    difference = abs(loss / unpacked - 1)
    assert difference <= TOLERANCE[model.dtype], f"packed {loss}, unpacked {unpacked}"
    return {
        "rows": len(padded[1]),
        "loss": round(loss, 5),
        "difference": float(f"{difference:.1e}"),
        "faster": round(unpacked_seconds / seconds, 1),
    }


@torch.inference_mode()
def mean_loss(
    model: Any, task: Any, rows: list[dict[str, Any]], together: int
) -> tuple[float, float]:
    """Of all targets; and the seconds of a second pass over them."""
    starts = range(0, len(rows), together)
    batches = [task.collate(rows[at : at + together], range(together)) for at in starts]
    seconds = 0.0
    for _ in range(2):
        began, total = time.monotonic(), 0.0
        for batch in batches:
            on_device = {name: value.to(model.device) for name, value in batch.items()}
            total += float(task.loss(model, on_device)[0])
        seconds = time.monotonic() - began
    return total / sum(map(task.targets, batches)), seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.packing")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    print(json.dumps(compared(options.folder, sizes(options.cpu))))


if __name__ == "__main__":
    main()
