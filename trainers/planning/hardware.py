"""What a worker has to compute on: an accelerator that is named, or this machine's."""

import dataclasses
import os
from typing import Any

import torch

from cluster.errors import UserError
from cluster.recipe.section import nearest
from trainers.engine import accelerators, flops
from trainers.engine.accelerators import ACCELERATORS, CPU, Hardware
from trainers.models.devices import multiplies_bf16

Given = tuple[str | None, float | None, float | None, float | None]
"""What a user can say of it: an accelerator's name, memory, peak and price."""
NOT_GIVEN: Given = (None, None, None, None)


def hardware(
    workers: int,
    accelerator: str | None = None,
    memory_gb: float | None = None,
    peak_tflops: float | None = None,
    price: float | None = None,
    gpus: float = 0.0,
) -> Hardware:
    """An accelerator by name, or else of this machine its GPU, if a worker holds one (`gpus`), or
    its share for each of the workers; any figure can be given instead. Of a fraction of a GPU, its
    share. Raises UserError for an unknown name, and where there is no GPU to plan for."""
    if accelerator is not None:
        if accelerator not in ACCELERATORS:
            hint = nearest(accelerator, ACCELERATORS)
            raise UserError(
                f"--accelerator {accelerator}: known are {', '.join(ACCELERATORS)}{hint}; for "
                "another, give --memory-gb and --peak-tflops"
            )
        found = ACCELERATORS[accelerator]
    elif memory_gb is not None and peak_tflops is not None:
        found = Hardware("GPU", memory_gb, peak_tflops)
    elif gpus:
        found = _gpu_here(memory_gb, peak_tflops)
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        precision = "bf16" if multiplies_bf16(torch.device(CPU)) else "fp32"  # by default
        peak = flops.measured_peak(CPU, precision, torch.get_num_threads())
        found = Hardware(CPU, memory / 1e9 / workers, peak / 1e12 / workers)
    given = {"memory_gb": memory_gb, "peak_tflops": peak_tflops, "price": price}
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name, value in changed.items():
        if value <= 0:
            raise UserError(f"--{name.replace('_', '-')} {value:g}: must be over 0")
    return dataclasses.replace(found, **changed).share(gpus if 0 < gpus < 1 else 1.0)


def _gpu_here(memory_gb: float | None, peak_tflops: float | None) -> Hardware:
    """This machine's GPU. Raises UserError."""
    if not torch.cuda.is_available():
        raise UserError(
            "--accelerator: the recipe trains on GPUs, and this machine has none; name that of the "
            f"workers, one of {', '.join(ACCELERATORS)}, or give --memory-gb and --peak-tflops"
        )
    properties = torch.cuda.get_device_properties(0)
    known = accelerators.named(properties.name)
    peak = peak_tflops or (known.peak_tflops if known else None)
    if peak is None:
        peak = flops.measured_peak("cuda", "bf16", 1) / 1e12
    memory = memory_gb or properties.total_memory / 1e9
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return Hardware(properties.name, memory, peak, known.price if known else None, has_bf16)
