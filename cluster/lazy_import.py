"""Things of upper folders, named as strings and loaded when used: imports go down only."""

import importlib
from typing import Any


def lazy_import(target: str) -> Any:
    """What `module:attribute` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
