"""torch.compile, with a way back: what it cannot compile runs as it is."""

import shutil

import torch
from torch import nn


def compile_if_possible(module: nn.Module) -> str | None:
    """Has a module compile at its first call; or returns what is wrong with this process's
    compiler."""
    has_gpu = torch.cuda.is_available()
    if not has_gpu and shutil.which("g++") is None:
        return "no C++ compiler (g++)"
    try:
        torch.compile(torch.relu)(torch.ones(2, device="cuda" if has_gpu else "cpu"))
    except Exception as error:  # noqa: BLE001  whatever a compiler and its driver can raise
        return f"torch.compile fails ({str(error).strip().splitlines()[0][:120]})"
    torch._dynamo.config.suppress_errors = True  # of a single operation: it is left out, and logged
    module.compile(dynamic=True)
    return None
