"""GPUs by name: memory, speed and price.

Memory and dense bf16 peak are of NVIDIA's data sheets, with fp32 accumulation for the GeForce card.
Prices are rough: on-demand, of specialist clouds in early 2026, by an hour; large clouds ask two to
four times as much. `--price` takes yours.
"""

import dataclasses
import re

CPU = "cpu"
SLOWER_FORMS = {"pcie", "nvl", "mig", "laptop"}
"""Words in the name of a device that is slower than the one of the same name in a data sheet."""


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Of one worker."""

    name: str
    memory_gb: float
    """10^9 bytes."""
    peak_tflops: float
    """Of matrix products in bf16, or in fp16 where it has no bf16."""
    price: float | None = None
    """US dollars an hour."""
    has_bf16: bool = True

    @property
    def is_gpu(self) -> bool:
        return self.name != CPU

    def share(self, of_gpu: float) -> "Hardware":
        """What a worker has that holds a fraction of it."""
        price = None if self.price is None else self.price * of_gpu
        memory_gb, peak_tflops = self.memory_gb * of_gpu, self.peak_tflops * of_gpu
        return dataclasses.replace(self, memory_gb=memory_gb, peak_tflops=peak_tflops, price=price)


ACCELERATORS = {
    one.name: one
    for one in (
        Hardware("T4", 16, 65, 0.2, has_bf16=False),
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


def named(device: str) -> Hardware | None:
    """The GPU that CUDA calls by this name, such as "NVIDIA A100-SXM4-80GB"; None where no data
    sheet is known for it. Pure."""
    words = _words(device)
    if words & SLOWER_FORMS:
        return None
    known = [one for one in ACCELERATORS.values() if _words(one.name) <= words]
    return known[0] if known else None


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower()))
