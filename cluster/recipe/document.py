"""A recipe's file as a document that knows its lines: read it, set keys, find the line of a key.

Recipes are YAML 1.2: `1e-4` is a number and `no` is a string.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from cluster.errors import RecipeError


def _yaml() -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.version = (1, 2)  # type: ignore[assignment]
    return yaml


def parse(path: Path) -> dict[str, Any]:
    """Raises RecipeError for what is no YAML, or no mapping."""
    try:
        document = _yaml().load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = (error.problem or "not valid YAML").splitlines()[0]
        raise RecipeError(f"{path}:{line}: {problem}") from error
    except YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(document, dict):
        found = "nothing" if document is None else show(document)
        raise RecipeError(
            f"{path}:1: a recipe is a mapping that starts with `name:`, found {found}"
        )
    return document


def assign_all(document: dict[str, Any], overrides: Iterable[str]) -> list[str]:
    """Applies `KEY=VALUE`, values in YAML; returns the keys. Raises RecipeError."""
    keys = []
    for override in overrides:
        key, separator, text = override.partition("=")
        key = key.strip()
        if not separator or not all(key.split(".")):
            raise RecipeError(f"--set {override!r}: expected KEY=VALUE, such as tune.trials=8")
        try:
            value = _yaml().load(text)
        except YAMLError as error:
            raise RecipeError(f"--set {override!r}: the value is not valid YAML") from error
        assign(document, key, value)
        keys.append(key)
    return keys


def assign(document: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key, with the sections above it. Raises RecipeError where one is a value."""
    *parents, last = key.split(".")
    for depth, parent in enumerate(parents):
        if document.get(parent) is None:
            document[parent] = {}
        document = document[parent]
        if not isinstance(document, dict):
            whole = ".".join(parents[: depth + 1])
            raise RecipeError(f"--set {key}: {whole} is a value, not a section")
    document[last] = value


def line_of(document: Any, dotted: str) -> tuple[int, list[str]]:
    """The line (from 1) of the deepest part of a dotted key that stands in the document, and the
    parts that do not.

    Keys may hold dots themselves, as those of tune.space do.
    """
    line, parts = 1, dotted.split(".") if dotted else []
    while parts:
        marks = getattr(document, "lc", None)
        if marks is None or marks.data is None:
            break
        known = {str(key): key for key in marks.data}
        for length in range(len(parts), 0, -1):
            if ".".join(parts[:length]) in known:
                break
        else:
            break
        key = known[".".join(parts[:length])]
        line, document, parts = marks.data[key][0] + 1, document[key], parts[length:]
    return line, parts


def show(value: Any) -> str:
    """A value as errors quote it."""
    text = repr(value.item() if hasattr(value, "item") else value)
    return text if len(text) <= 60 else text[:57] + "..."
