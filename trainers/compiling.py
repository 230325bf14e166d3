"""torch.compile, with a way back: what it cannot compile runs as it is."""

import shutil

import torch
import torch.distributed as dist
from torch import nn

from cluster.progress import Progress


def compiled(module: nn.Module, progress: Progress) -> bool:
    """Has a module compile at its first call; where this process's compiler cannot, rank 0 says
    why."""
    reason = _why_not()
    if reason is None:
        # Of a single operation: it is left out, and logged.
        torch._dynamo.config.suppress_errors = True
        module.compile(dynamic=True)
    elif dist.get_rank() == 0:
        progress.line(f"{reason}: the model runs uncompiled, slower")
    return reason is None


def _why_not() -> str | None:
    """What is wrong with the compiler."""
    has_gpu = torch.cuda.is_available()
    if not has_gpu and shutil.which("g++") is None:
        return "no C++ compiler (g++)"
    try:
        torch.compile(torch.relu)(torch.ones(2, device="cuda" if has_gpu else "cpu"))
    except Exception as error:  # noqa: BLE001  whatever a compiler and its driver can raise
        return f"torch.compile fails ({str(error).strip().splitlines()[0][:120]})"
    return None
