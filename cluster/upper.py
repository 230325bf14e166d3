"""Things of upper folders, named as strings and loaded when used: imports go down only."""

import importlib
import sys
from typing import Any


def is_loaded(target: str) -> bool:
    """Whether what `module:attribute` names is there without an import."""
    return target.partition(":")[0] in sys.modules


def load(target: str) -> Any:
    """What `module:attribute` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
