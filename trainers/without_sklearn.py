"""Transformers, imported a quarter faster: every process that trains or serves does it.

Its models import scikit-learn, where that is installed, for a heuristic of assisted generation,
which raymill does not use. Here that one module is told that there is none.
"""

import importlib

import transformers
from transformers import utils

_is_sklearn_available = utils.is_sklearn_available
utils.is_sklearn_available = lambda: False
try:
    importlib.import_module("transformers.generation.candidate_generator")
finally:
    utils.is_sklearn_available = _is_sklearn_available

__all__ = ["transformers"]
