"""Every key that a recipe can have, from the sections' own fields: `raymill recipes --keys`."""

import textwrap
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from cluster.errors import UserError
from cluster.recipe.loading import kinds_in, known_recipe, sections_in
from cluster.recipe.section import Section, nearest

WIDTH = 100
NAME = "NAME"
"""Stands for the keys that a user chooses, such as those of corpora.sources."""


def reference(prefix: str = "") -> list[dict[str, str]]:
    """`key`, `type`, `default`, `about` of every key below a dotted prefix; `redoes` is empty for
    those that say how a stage runs, not what it makes, and `only` for those that all kinds of their
    section have alike, such as all tasks of `finetune`.

    Raises UserError where there is none.
    """
    found = list(_keys(known_recipe(), ""))
    below = [item for item in found if not prefix or f"{item['key']}.".startswith(f"{prefix}.")]
    if not below:
        hint = nearest(prefix, [item["key"] for item in found])
        raise UserError(f"--keys {prefix}: no such key{hint}")
    return below


def as_text(keys: list[dict[str, str]]) -> str:
    """For a terminal: a line a key, and what it is below it."""
    lines = []
    for item in keys:
        default = f" = {item['default']}" if item["default"] else ""
        free = "" if item["redoes"] else "  (a change redoes nothing)"
        only = f"  (of {item['only']})" if item["only"] else ""
        lines.append(f"{item['key']}: {item['type']}{default}{only}{free}")
        lines += textwrap.wrap(
            item["about"], WIDTH, initial_indent="    ", subsequent_indent="    "
        )
    return "\n".join(lines)


def _keys(model: type[Section], prefix: str) -> Iterator[dict[str, str]]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        nested = sections_in(field.annotation)
        yield {
            "key": key,
            "type": _type(field.annotation),
            "default": _default(field),
            "about": _about(field, nested),
            "redoes": "" if _is_operational(field, nested) else "what depends on it",
            "only": "",
        }
        named = f"{key}.{NAME}." if get_origin(field.annotation) is dict else f"{key}."
        kinds = kinds_in(field.annotation)
        yield from _merged({kind: list(_keys(kinds[kind], named)) for kind in kinds})


def _merged(kinds: Mapping[str, list[dict[str, str]]]) -> Iterator[dict[str, str]]:
    """The keys of a section of several kinds: what several have alike comes once, with those that
    have it. Pure."""
    having: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for kind, keys in kinds.items():
        for item in keys:
            having.setdefault(tuple(item.items()), []).append(kind)
    place = {
        key: number for number, key in enumerate(dict.fromkeys(dict(one)["key"] for one in having))
    }
    for one in sorted(having, key=lambda one: place[dict(one)["key"]]):
        item, who = dict(one), "" if len(having[one]) == len(kinds) else ", ".join(having[one])
        yield {**item, "only": ": ".join(filter(None, (who, item["only"])))}


def _is_operational(field: FieldInfo, nested: list[type[Section]]) -> bool:
    """Of a section, if all its keys are: another stage may depend on the others."""
    return field.json_schema_extra is not None and all(
        inner.json_schema_extra is not None
        for section in nested
        for inner in section.model_fields.values()
    )


def _about(field: FieldInfo, nested: list[type[Section]]) -> str:
    about = field.description or (nested[0].__doc__ if nested else "") or ""
    return " ".join(about.split())


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if field.is_required() or value is None or isinstance(value, Section) or value == {}:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value).replace("\n", "\\n")


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        kinds = (_type(kind) for kind in arguments if kind is not type(None))
        return " | ".join(dict.fromkeys(kinds))
    if origin in (list, tuple):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping to {_type(arguments[1])}"
    if sections_in(annotation):
        return "section"
    return {int: "integer", float: "number", str: "text", bool: "true | false"}.get(
        annotation, "anything"
    )
