"""torch.compile, with a way back: what it cannot compile runs as it is."""

import shutil

import torch
import torch._functorch.config
from torch import nn

from cluster.runs.progress import Progress
from trainers.parallel.collectives import first_reason


def try_compile(module: nn.Module, device: torch.device, progress: Progress) -> bool:
    """Has a module compile for a device at its first call. Where the compiler of any rank fails, no
    rank compiles, and a line says why. Every rank calls it."""
    reason = first_reason(_compiler_failure(device))
    if reason is not None:
        progress.line(f"{reason}: the model runs uncompiled, slower")
        return False
    # A single part that fails runs uncompiled, and the log says why. Its gradient is compiled with
    # it, as what fails later would end the training.
    torch._dynamo.config.suppress_errors = True
    torch._functorch.config.force_non_lazy_backward_lowering = True
    module.compile(dynamic=True)
    return True


def _compiler_failure(device: torch.device) -> str | None:
    if device.type == "cpu" and shutil.which("g++") is None:
        return "no C++ compiler (g++)"
    try:
        torch.compile(torch.relu)(torch.ones(2, device=device))
    except Exception as error:  # noqa: BLE001  whatever a compiler and its driver can raise
        first_line, _, _ = str(error).strip().partition("\n")
        return f"torch.compile fails ({first_line[:120]})"
    return None
