"""Transformers and DeepSpeed without what they import for features that raymill does not use: some
5 of 15 s for each worker that trains, 3 of 8 s for each replica that serves.

Those few modules of theirs are told that there is no such library.
"""

import importlib
from typing import Any

import transformers
from transformers import utils

from cluster.ray.replacing import replaced

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
