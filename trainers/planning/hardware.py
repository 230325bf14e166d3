"""What a worker's accelerator has: memory, speed and price.

Memory and dense bf16 peak are of NVIDIA's data sheets, with fp32 accumulation for the GeForce card.
Prices are rough: on-demand, of specialist clouds in early 2026, by an hour; large clouds ask two to
four times as much. `--price` takes yours.
"""

import dataclasses
import os
from typing import Any

import torch

from cluster.errors import UserError
from cluster.recipe.section import nearest
from trainers.engine import flops

CPU = "cpu"


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Of one worker."""

    name: str
    memory_gb: float
    """10^9 bytes."""
    peak_tflops: float
    """Of matrix products in bf16."""
    price: float | None = None
    """US dollars an hour."""

    @property
    def is_gpu(self) -> bool:
        return self.name != CPU


ACCELERATORS = {
    one.name: one
    for one in (
        Hardware("T4", 16, 65, 0.2),  # of fp16: it has no bf16
        Hardware("L4", 24, 121, 0.5),
        Hardware("A10G", 24, 70, 0.6),
        Hardware("RTX-4090", 24, 165, 0.34),
        Hardware("L40S", 48, 362, 0.9),
        Hardware("A100-40GB", 40, 312, 1.1),
        Hardware("A100-80GB", 80, 312, 1.5),
        Hardware("H100", 80, 989, 2.99),
        Hardware("H200", 141, 989, 3.8),
        Hardware("B200", 180, 2250, 5.5),
    )
}


Given = tuple[str | None, float | None, float | None, float | None]
"""What a user can say of it: an accelerator's name, memory, peak and price."""


def hardware(
    workers: int,
    accelerator: str | None = None,
    memory_gb: float | None = None,
    peak_tflops: float | None = None,
    price: float | None = None,
) -> Hardware:
    """An accelerator by name, or else this machine's share for each of the workers; any figure can
    be given instead. Raises UserError for an unknown name."""
    if accelerator is not None:
        if accelerator not in ACCELERATORS:
            hint = nearest(accelerator, ACCELERATORS)
            raise UserError(
                f"--accelerator {accelerator}: known are {', '.join(ACCELERATORS)}{hint}; for "
                "another, give --memory-gb and --peak-tflops"
            )
        hardware = ACCELERATORS[accelerator]
    elif memory_gb is not None and peak_tflops is not None:
        hardware = Hardware("GPU", memory_gb, peak_tflops)
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        peak = flops.measured_peak(CPU, "bf16", torch.get_num_threads())
        hardware = Hardware(CPU, memory / 1e9 / workers, peak / 1e12 / workers)
    given = {"memory_gb": memory_gb, "peak_tflops": peak_tflops, "price": price}
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name, value in changed.items():
        if value <= 0:
            raise UserError(f"--{name.replace('_', '-')} {value:g}: must be over 0")
    return dataclasses.replace(hardware, **changed)
