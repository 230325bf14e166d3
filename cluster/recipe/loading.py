"""Load a recipe, override it, validate it; every error names file, line, key, value and remedy.

    recipe = load("quickstart", overrides=["pretrain.batch_size=64"])
    recipe.pretrain.batch_size

Validation imports neither torch nor Ray. Sections are named here as strings because they belong to
upper folders.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import Tag, ValidationError, create_model

from cluster.errors import RecipeError
from cluster.lazy_import import lazy_import
from cluster.recipe.document import assign, assign_all, line_of, parse, show
from cluster.recipe.section import Conflict, Invalid, Recipe, Section, nearest

SECTIONS = {
    "corpora": "trainers.corpora.config:Corpora",
    "pretrain": "trainers.tasks.pretraining.config:Pretrain",
    "finetune": "trainers.tasks.registry:FINETUNE",
    "tune": "tuning.config:Tune",
    "serve": "serving.config:Serve",
}
EXPECTED = {
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected text",
    "list_type": "expected a list",
    "dict_type": "expected a section with keys of its own",
    "model_type": "expected a section with keys of its own",
    "invalid_key": "a key must be text",
    "string_pattern_mismatch": "expected lower-case letters, digits and dashes, at most 40",
}
"""What to say for pydantic's kinds of error, where it has its own words for YAML's types."""
SHIPPED = Path(__file__).parents[2] / "trainers" / "recipes"


def shipped() -> dict[str, Path]:
    """Shipped recipes by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def named(name: str) -> Path:
    """The file of a shipped recipe. Raises RecipeError."""
    if name not in shipped():
        raise RecipeError(
            f"{name}: no shipped recipe{nearest(name, shipped())}; there are {', '.join(shipped())}"
        )
    return shipped()[name]


def about(path: Path) -> str:
    """The first comment line of a recipe file: what it is."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def load(
    source: str | Path,
    overrides: Iterable[str] = (),
    workspace: str | None = None,
    check_files: bool = False,
) -> Recipe:
    """The recipe in a file or of a shipped name, after `key=value` overrides. `check_files` looks
    at the local files that it names, too.

    Raises RecipeError with one line for each problem found.
    """
    path = find(str(source))
    document = parse(path)
    for name in SECTIONS:
        if name in document and document[name] is None:
            document[name] = {}  # `finetune:` with nothing behind it means its defaults
    assigned = assign_all(document, overrides)
    if workspace is not None:
        document["workspace"] = workspace
    return _validate(document, str(path), assigned, check_files)


def warnings(recipe: Recipe) -> list[str]:
    """What a user should know of a recipe that is valid."""
    return [line for section in _sections(recipe) for line in section.warnings(recipe)]


def described(recipe: Recipe) -> list[str]:
    """How a valid recipe is understood, where that is not plain from what it says."""
    return [line for section in _sections(recipe) for line in section.described(recipe)]


def override(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with dotted keys replaced, validated again: what a trial of a search runs."""
    document = recipe.model_dump(mode="json", exclude_unset=True)
    for key, value in values.items():
        assign(document, key, value)
    return _validate(document, source=recipe.name)


def load_section(name: str, overrides: Iterable[str], keys: Mapping[str, Any] | None = None) -> Any:
    """One section alone, from its keys (by default none) and `SECTION.KEY=VALUE`. Raises
    RecipeError."""
    document: dict[str, Any] = {name: dict(keys or {})}
    assigned = assign_all(document, overrides)
    for key in assigned:
        if not key.startswith(f"{name}."):
            raise RecipeError(f"--set {key}: only keys of {name} count here")
    model = create_model("One", __base__=Section, **{name: (lazy_import(SECTIONS[name]), ...)})  # type: ignore[call-overload]
    return getattr(_checked(model, document, "--set", assigned), name)


def load_keys(section: type[Section], overrides: Iterable[str], keys: Mapping[str, Any]) -> Any:
    """A section that stands in no recipe, from its keys and `KEY=VALUE`. Raises RecipeError."""
    document = dict(keys)
    assigned = assign_all(document, overrides)
    return _checked(section, document, "--set", assigned)


def located(source: str) -> Path | None:
    """Where a recipe is, given as a path or a shipped name; None if it is neither."""
    path = shipped().get(source, Path(source))
    return path if path.is_file() else None


def find(source: str) -> Path:
    """The file of a recipe, given as a path or a shipped name. Raises RecipeError."""
    path = located(source)
    if path is not None:
        return path
    beside = [file.name for file in Path(source).parent.glob("*.y*ml")]
    hint = nearest(Path(source).name, [*beside, *shipped()])
    raise RecipeError(f"{source}: no such file or shipped recipe{hint}; see `raymill recipes`")


@functools.cache
def known_recipe() -> type[Recipe]:
    """The recipe with the types of its sections."""
    fields: dict[str, Any] = {}
    for name, target in SECTIONS.items():
        fields[name] = (lazy_import(target) | None, None)
    return create_model("ValidatedRecipe", __base__=Recipe, **fields)


def _validate(
    document: dict[str, Any], source: str, assigned: Iterable[str] = (), check_files: bool = False
) -> Recipe:
    recipe: Recipe = _checked(known_recipe(), document, source, assigned)

    def refuse(conflicts: Iterable[Conflict]) -> None:
        problems = [
            f"{_where(document, source, assigned, conflict.key)}: {conflict.message}"
            for conflict in conflicts
        ]
        if problems:
            raise RecipeError("\n".join(problems))

    refuse(conflict for section in _sections(recipe) for conflict in section.conflicts(recipe))
    if check_files:
        refuse(fault for section in _sections(recipe) for fault in section.faults(recipe))
    return recipe


def _checked(
    model: type[Section], document: dict[str, Any], source: str, assigned: Iterable[str]
) -> Any:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        items = error.errors()
        # Of a sequence whose items are refused, pydantic says too that it is too short.
        outer = {item["loc"][:-1] for item in items if item["loc"]}
        problems = [
            _explain(model, document, source, assigned, item)
            for item in items
            if item["loc"] not in outer
        ]
        raise RecipeError("\n".join(dict.fromkeys(problems))) from None


def _sections(recipe: Recipe) -> Iterator[Section]:
    for name in type(recipe).model_fields:
        value = getattr(recipe, name)
        if isinstance(value, Section):
            yield value


def _explain(
    model: type[Section],
    document: dict[str, Any],
    source: str,
    assigned: Iterable[str],
    item: Any,
) -> str:
    """One line for one pydantic error: where, which key, what stood there, what to do."""
    # The tags of a union's members are no keys: they begin with "|".
    keys = [key for key in item["loc"] if not str(key).startswith("|")]
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, Invalid):
        keys.append(cause.key)
    where = _where(document, source, assigned, ".".join(map(str, keys)))
    match item["type"]:
        case "extra_forbidden":
            unknown = f"unknown key (value {show(item['input'])})"
            siblings = _fields(model, item["loc"][:-1])
            if keys[-1] in _fields(model, keys[:-1]):
                kind = _told_by(keys[:-1])[0]
                return f"{where}: {unknown}; another {kind} has it, this one {', '.join(siblings)}"
            inner = _inner(model, item["loc"], siblings)
            told = f"; did you mean {inner!r}?" if inner else nearest(str(keys[-1]), siblings)
            hint = told or f"; known: {', '.join(siblings)}"
            return f"{where}: {unknown}{hint}"
        case "missing":
            return f"{where}: missing; it must be given"
        case "union_tag_invalid":  # a section of several kinds
            key = _told_by(keys)[1]
            known, kind = _choices(item), item["input"][key]
            where = _where(document, source, assigned, ".".join(map(str, [*keys, key])))
            hint = nearest(str(kind), known)
            return f"{where}: must be {' or '.join(known)}, found {show(kind)}{hint}"
        case "value_error" | "assertion_error":
            return f"{where}: {cause}"
        case kind:
            # Of its own accord pydantic says "Input should be greater than 0".
            message = EXPECTED.get(kind) or item["msg"].replace("Input should", "must")
            hint = nearest(str(item["input"]), _choices(item))
            return f"{where}: {message}, found {show(item['input'])}{hint}"


def _told_by(keys: Sequence[Any]) -> tuple[str, str]:
    """Of a section of several kinds, what such a kind is, and which of its keys says it."""
    return ("task", "task") if [*keys] == ["finetune"] else (str(keys[-1]), "name")


def _where(document: dict[str, Any], source: str, assigned: Iterable[str], key: str) -> str:
    """`FILE:LINE: KEY`, or `--set KEY` where the value came from the command line."""
    line, missing = line_of(document, key)
    for given in assigned:
        is_made_by_it = bool(missing) and given.startswith(f"{key}.")
        if is_made_by_it or key == given or key.startswith(f"{given}."):
            return f"--set {key}"
    return f"{source}:{line}: {key or 'recipe'}"


def _choices(item: Any) -> list[str]:
    context = item.get("ctx", {})
    expected = str(context.get("expected", context.get("expected_tags", "")))
    return [choice.lstrip("|") for choice in expected.split("'")[1::2]]


def _fields(model: type[Section], keys: Sequence[Any]) -> list[str]:
    """The keys known in the section at `keys`, walking through lists, mappings, optionals and
    unions: of these through the members with a tag that is among the keys, or all."""
    found: list[Any] = [model]
    for key in keys:
        sections = [section for annotation in found for section in sections_in(annotation)]
        fields = [one.model_fields[key].annotation for one in sections if key in one.model_fields]
        members = [one for annotation in found for one in _tagged(annotation, key)]
        found = members or [one for one in fields if sections_in(one)] or found
    sections = [section for annotation in found for section in sections_in(annotation)]
    return sorted({name for section in sections for name in section.model_fields})


def _inner(model: type[Section], keys: Sequence[Any], siblings: Sequence[str]) -> str | None:
    """The key of that name in a section beside it, such as `method.rank` for `rank`."""
    *outer, last = keys
    found = (one for one in siblings if last in _fields(model, [*outer, one]))
    return next((f"{one}.{last}" for one in found), None)


def _tagged(annotation: Any, tag: str) -> list[Any]:
    """The members of unions in a field's type that have this tag."""
    if Tag(tag) in getattr(annotation, "__metadata__", ()):
        return [annotation]
    return [member for argument in get_args(annotation) for member in _tagged(argument, tag)]


def kinds_in(annotation: Any, tag: str = "") -> dict[str, type[Section]]:
    """The sections that a field's type names, by what their kinds are called; "" where there is but
    one."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return {tag: annotation}
    for mark in getattr(annotation, "__metadata__", ()):
        if isinstance(mark, Tag):
            tag = mark.tag.lstrip("|")
    arguments = get_args(annotation)
    return {name: one for argument in arguments for name, one in kinds_in(argument, tag).items()}


def sections_in(annotation: Any) -> list[type[Section]]:
    """The sections that a field's type names."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for argument in get_args(annotation) for model in sections_in(argument)]
