"""Packed documents never see each other: the loss of packed rows is that of a document a row, by
the block-diagonal mask and, on GPUs, by flash attention over the bounds of documents.

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

from tests.gpu.packed_corpus import corpus
from tests.gpu.sizes import Sizes, sizes
from trainers.corpora.tokens.pack import pack_documents
from trainers.models import packed_attention
from trainers.models.build import Start
from trainers.models.devices import own_device
from trainers.models.shape import Shape
from trainers.tasks.pretraining.causal_lm import CausalLM

ROWS = 4
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-3}
"""Of the mean loss, relative: what sums in another order come to."""


def compared(folder: Path, chosen: Sizes) -> dict[str, Any]:
    device = own_device(chosen.gpus)
    length = chosen.sequence_length
    shape = Shape(architecture="llama", max_positions=length, **chosen.packed)
    torch.manual_seed(17)
    task = CausalLM(corpus(folder, chosen), Start(shape=shape), 17, 1.0)
    model: Any = task.model().to(device).eval()
    rows = task.rows("train")
    every = rows.take(np.arange(len(rows)))
    packed = sorted(every, key=lambda row: -len(row["piece_lengths"]))[:ROWS]
    assert all(len(row["piece_lengths"]) > 1 for row in packed), "there is nothing to keep apart"
    single = alone(packed, length, task.tokenizer())
    found = {"fp32 by mask": outcome(task, model, packed, single)}
    if device.type == "cuda":
        model = model.to(torch.bfloat16)
        found["bf16 by mask"] = outcome(task, model, packed, single)
        packed_attention.prepare(model, device, "bf16")
        assert packed_attention.is_used(model), "this GPU has no flash attention"
        found["bf16 by bounds"] = outcome(task, model, packed, single)
    return found


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


def outcome(task: CausalLM, model: Any, packed: Any, single: Any) -> dict[str, Any]:
    loss, seconds = mean_loss(task, model, packed)
    unpacked, unpacked_seconds = mean_loss(task, model, single)
    difference = abs(loss / unpacked - 1)
    assert difference <= TOLERANCE[model.dtype], f"packed {loss}, unpacked {unpacked}"
    return {
        "documents": len(single),
        "loss": round(loss, 5),
        "difference": float(f"{difference:.1e}"),
        "faster": round(unpacked_seconds / seconds, 1),
    }


@torch.inference_mode()
def mean_loss(task: CausalLM, model: Any, rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Of all targets; and the seconds of a second pass over them."""
    batches = [task.collate(rows[at : at + ROWS], range(ROWS)) for at in range(0, len(rows), ROWS)]
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
