"""Transformers and DeepSpeed, imported in half the time: every process that trains or serves waits
for it.

Both import libraries for features that raymill does not use. Here those few modules are told that
there is no such library.
"""

import importlib
from typing import Any

import transformers
from transformers import utils

from cluster.replacing import replaced

with (  # a heuristic of assisted generation, and the losses of object detection
    replaced(utils, "is_sklearn_available", lambda: False),
    replaced(utils, "is_scipy_available", lambda: False),
):
    importlib.import_module("transformers.generation.candidate_generator")
    importlib.import_module("transformers.loss.loss_utils")


def deepspeed() -> Any:
    """The module. Its Muon optimizer, which it imports with every engine, stays uncompiled, and so
    imports no compiler."""
    module = importlib.import_module("deepspeed")
    compiler = importlib.import_module("deepspeed.runtime.compiler")
    with replaced(compiler, "compile", lambda: lambda function: function):
        importlib.import_module("deepspeed.runtime.zero.muon.original_muon")
    return module


__all__ = ["deepspeed", "transformers"]
