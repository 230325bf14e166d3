"""Model FLOPs utilization (MFU): of what the processors can multiply, how much training uses.

A task counts what training computes (trainers/tasks/flops.py); here is what the processors could:
of GPUs what their data sheet says, as is customary, of others what a matrix product reaches.
"""

import functools
import math
import time

import torch
import torch.distributed as dist

from trainers.engine import accelerators
from trainers.engine.training_config import Training
from trainers.engine.zero import resolve_precision

MEASURED_S = 0.2
SIDE = {"cpu": 512, "cuda": 8192}
"""Rows and columns of the matrices that are multiplied to find the peak."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def peak(settings: Training, device: torch.device) -> float:
    """FLOPs a second that all workers can multiply, in the precision of the training. Every rank
    calls it; they measure at the same time, as they will compute."""
    if settings.peak_tflops is not None:
        return settings.peak_tflops * 1e12 * dist.get_world_size()
    precision = resolve_precision(settings, device)
    known = None
    if device.type == "cuda" and precision != "fp32":  # data sheets have no fp32 without TF32
        known = accelerators.named(torch.cuda.get_device_name(device))
    if known is not None:
        local = known.share(settings.gpus_per_worker).peak_tflops * 1e12
    else:
        local = measured_peak(device.type, precision, settings.worker_cpus)
    total = torch.tensor(local, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return float(total)


@functools.cache
def measured_peak(device: str, precision: str, threads: int) -> float:
    """FLOPs a second of a matrix product on this process's device; on a CPU with torch's `threads`,
    which are already set."""
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
