"""Model FLOPs utilization (MFU): of what the processors can multiply, how much training uses.

A token costs 6 N FLOPs forward and backward: each of the N parameters that multiply is multiplied
and added once forward and twice backward (Kaplan et al. 2020, section 2.1). Attention adds
12 L d T for L layers of width d over sequences of T tokens (Chowdhery et al. 2022, appendix B).
What is computed twice on purpose (activation checkpointing) does not count.

The formula takes every token through the whole model. Masked LM runs its head at the masked places
alone, and the encoder of T5 sees only its own part: there the figure is an upper bound.
"""

import dataclasses
import functools
import math
import time
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from trainers.engine.training_config import Training
from trainers.engine.zero import resolve_precision

MEASURED_S = 0.2
SIDE = {"cpu": 512, "cuda": 8192}
"""Rows and columns of the matrices that are multiplied to find the peak."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclasses.dataclass(frozen=True)
class Cost:
    """What FLOPs follow from."""

    parameters: int
    """That take part in a matrix product: all but embeddings that are only looked up."""
    widths: int
    """Layers x width, where each layer attends."""

    def of_token(self, length: float) -> float:
        """FLOPs of a token in training, in sequences of so many tokens."""
        return 6.0 * self.parameters + 12.0 * self.widths * length


def cost(module: nn.Module) -> Cost:
    """The cost of a Transformers model, or of several in one module. Before an engine cuts it."""
    models = [module] if hasattr(module, "config") else list(module.children())
    return Cost(sum(map(_multiplying, models)), sum(map(_widths, models)))


def _multiplying(model: Any) -> int:
    head = model.get_output_embeddings()
    shared = getattr(head, "weight", None)  # a table that is the output layer too is multiplied
    looked_up = {
        id(module.weight): module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.weight is not shared
    }
    return sum(parameter.numel() for parameter in model.parameters()) - sum(looked_up.values())


def _widths(model: Any) -> int:
    config = model.config
    layers = config.num_hidden_layers + (getattr(config, "num_decoder_layers", None) or 0)
    return layers * config.hidden_size


def peak(settings: Training, device: torch.device) -> float:
    """FLOPs a second that all workers can multiply, in the precision of the training. Every rank
    calls it; they measure at the same time, as they will compute."""
    if settings.peak_tflops is not None:
        return settings.peak_tflops * 1e12 * dist.get_world_size()
    precision = resolve_precision(settings.precision)
    own = measured_peak(device.type, precision, settings.cpus_per_worker)
    found = torch.tensor(own, dtype=torch.float64, device=device)
    dist.all_reduce(found)
    return float(found)


@functools.cache
def measured_peak(device: str, precision: str, threads: int) -> float:
    """FLOPs a second of a matrix product on this process's device; on a CPU with its `threads`,
    which are torch's already."""
    side = SIDE[device]
    matrix = torch.randn(side, side, device=device, dtype=DTYPES[precision])
    torch.mm(matrix, matrix)
    best, until = math.inf, time.monotonic() + MEASURED_S
    while math.isinf(best) or time.monotonic() < until:
        _synchronize(device)
        began = time.monotonic()
        torch.mm(matrix, matrix)
        _synchronize(device)
        best = min(best, time.monotonic() - began)
    return 2.0 * side**3 / best


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
