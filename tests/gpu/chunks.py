"""The loss of a large vocabulary: in chunks it is that of whole logits, with the same gradient, in
less memory; and so it is by Liger Kernel, where that is installed.

    python -m tests.gpu.chunks FOLDER [--cpu]

Prints one JSON object by way of computing it. Raises AssertionError where they differ.
"""

import argparse
import importlib.util
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tests.gpu.sizes import Sizes, sizes
from trainers.models import chunked_loss
from trainers.models.build import Start, build
from trainers.models.devices import own_device
from trainers.models.shape import Shape
from trainers.planning.synthetic_corpus import tokenizer
from trainers.tasks.causal_loss import causal_loss

LIGER = "liger_kernel"
LOSS = {torch.float32: 1e-5, torch.bfloat16: 1e-3}
GRADIENT = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""How far the mean loss, and the gradient of the embeddings, may be off, relative."""
TIMES = 2
"""Each is computed, of which the last is timed: a kernel compiles at the first."""


class Outcome(NamedTuple):
    loss: float
    gradient: Tensor
    peak: float
    """Bytes, with all that is there before; on a CPU of all until now."""
    seconds: float


def compared(chosen: Sizes) -> dict[str, Any]:
    device = own_device(chosen.gpus)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    length, rows = chosen.sequence_length, chosen.micro_batch_size
    config = {"vocab_size": chosen.large_vocabulary}
    shape = Shape(architecture="llama", max_positions=length, config=config, **chosen.packed)
    torch.manual_seed(17)
    with device:
        model: Any = build(Start(shape=shape), "AutoModelForCausalLM", tokenizer(1000)).to(dtype)
        ids = torch.randint(chosen.large_vocabulary, (rows, length))
    chunked_loss.prepare(model)
    has_liger = device.type == "cuda" and importlib.util.find_spec(LIGER) is not None
    found: dict[str, Outcome] = {}
    if has_liger:
        found["liger"] = outcome(model, ids)
    sys.modules[LIGER] = None  # type: ignore[assignment]  # as if it were not installed
    found["chunks"] = outcome(model, ids)
    model.get_output_embeddings().__class__ = nn.Linear
    assert chunked_loss.loss_head(model) is None
    whole = found["whole logits"] = outcome(model, ids)
    told: dict[str, Any] = {"tokens": ids.numel(), "vocabulary": chosen.large_vocabulary}
    for way, one in found.items():
        refuse_other(way, one, whole, dtype)
        told[way] = {
            "loss": round(one.loss, 5),
            "peak_gb": round(one.peak / 1e9, 2),
            "ms": round(1000 * one.seconds),
        }
    return told if has_liger else {**told, "liger": "not tried, it is not installed"}


def refuse_other(way: str, one: Outcome, whole: Outcome, dtype: torch.dtype) -> None:
    off = abs(one.loss / whole.loss - 1)
    assert off <= LOSS[dtype], f"the loss by {way} is {one.loss}, of whole logits {whole.loss}"
    difference = float((one.gradient - whole.gradient).norm() / whole.gradient.norm())
    assert difference <= GRADIENT[dtype], f"the gradient by {way} is off by {difference}"
    if way != "whole logits":
        assert one.peak < whole.peak, f"{way} takes as much memory as whole logits"


def outcome(model: Any, ids: Tensor) -> Outcome:
    """Of the mean loss of each next token, forward and back."""
    labels = nn.functional.pad(ids[:, 1:], (0, 1), value=-100)
    targets, is_cuda = int((labels >= 0).sum()), ids.is_cuda
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(TIMES):
        model.zero_grad(set_to_none=True)
        began = time.monotonic()
        loss = causal_loss(model, {"input_ids": ids}, labels, counted=False)[0] / targets
        loss.backward()
        mean = loss.item()  # waits for a GPU
        if is_cuda:
            torch.cuda.synchronize()
        seconds = time.monotonic() - began
    gradient = model.get_input_embeddings().weight.grad.float().cpu()
    return Outcome(mean, gradient, _peak_bytes(is_cuda), seconds)


def _peak_bytes(is_cuda: bool) -> float:
    if is_cuda:
        return float(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.chunks")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpu", action="store_true")
    print(json.dumps(compared(sizes(parser.parse_args().cpu))))


if __name__ == "__main__":
    main()
