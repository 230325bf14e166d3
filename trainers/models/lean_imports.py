"""Transformers and DeepSpeed without what they import for features that raymill does not use: some
5 of 15 s for each worker that trains, 3 of 8 s for each replica that serves.

Those few modules of theirs are told that there is no such library. tests/unit/test_public.py tells
when a new version imports it by another way.
"""

import gc
import importlib
import sys
from typing import Any
from unittest.mock import patch

import transformers
from transformers import utils

with (  # a heuristic of assisted generation, and the losses of object detection
    patch.object(utils, "is_sklearn_available", lambda: False),
    patch.object(utils, "is_scipy_available", lambda: False),
):
    importlib.import_module("transformers.generation.candidate_generator")
    importlib.import_module("transformers.loss.loss_utils")

MUON = "deepspeed.runtime.zero.muon.original_muon"


def deepspeed() -> Any:
    """The module. Its Muon optimizer, which it imports with every engine, stays uncompiled, and so
    imports no compiler. DeepSpeed collects garbage at each turn: 0.4 s each time, if it looked at
    what these imports allocated."""
    if MUON in sys.modules:
        return sys.modules["deepspeed"]
    module = importlib.import_module("deepspeed")
    compiler = importlib.import_module("deepspeed.runtime.compiler")
    with patch.object(compiler, "compile", lambda: lambda function: function):
        importlib.import_module(MUON)
    gc.freeze()
    return module


__all__ = ["deepspeed", "transformers"]
