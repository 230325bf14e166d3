"""The columns of scored rows: those of the input as they came, and those of a prediction.

All shards of an output have one schema. A Parquet file says what its columns are. Of rows that do
not say it, such as those of JSON, the first ones decide, and what a later row has that fits nowhere
is kept as JSON in the column `rescued_data`. Files of Parquet that agree need no such column.
"""

import functools
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json
from typing_extensions import is_typeddict

from trainers.scoring.answers import Row

RESCUED = "rescued_data"
SCORE = "score"
"""How certain a prediction is, where its task has one number for that (Predictor.score)."""
JSON = {b"content": b"json"}
"""Marks a column of texts that are JSON: objects, and what was of several types."""
RESCUED_FIELD = pa.field(RESCUED, pa.large_string(), metadata=JSON)
SCALARS = {str: pa.large_string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


def schema_of_rows(rows: Sequence[Row]) -> pa.Schema:
    """What the columns of rows are, by their values. Pure."""
    names = dict.fromkeys(name for row in rows for name in row)
    fields = [_field(name, [row[name] for row in rows if name in row]) for name in names]
    return _with_rescued(pa.schema(fields))


def schema_of_files(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The columns of all these files; of one that differs too much, as the first has it. Pure."""
    types = {(field.name, field.type) for schema in schemas for field in schema}
    fields: dict[str, pa.Field] = {}
    for field in (field for schema in schemas for field in schema):
        known = pa.schema([fields.get(field.name, field).remove_metadata()])
        try:
            other = pa.schema([field.remove_metadata()])
            (both,) = pa.unify_schemas([known, other], promote_options="permissive")
        except pa.ArrowException:
            (both,) = known
        fields[field.name] = both.with_nullable(True)
    schema = pa.schema([*fields.values()])
    agree = len(types) == len(fields) and all(map(_holds_what_it_reads, schema.types))
    return schema if agree and RESCUED not in fields else _with_rescued(schema)


def _with_rescued(schema: pa.Schema) -> pa.Schema:
    """A column that the input has of that name is taken over."""
    place = schema.get_field_index(RESCUED)
    return schema.append(RESCUED_FIELD) if place < 0 else schema.set(place, RESCUED_FIELD)


def _holds_what_it_reads(kind: pa.DataType) -> bool:
    """Whether every value of a column of this type, as Python has it, fits the type again."""
    if pa.types.is_nested(kind):
        return all(_holds_what_it_reads(kind.field(n).type) for n in range(kind.num_fields))
    of_bytes = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
    is_plain = pa.types.is_primitive(kind) and not pa.types.is_float16(kind)
    return is_plain or pa.types.is_decimal(kind) or pa.types.is_null(kind) or kind in of_bytes


def _field(name: str, values: Sequence[Any]) -> pa.Field:
    found = [value for value in values if value is not None]
    kind = _type_of(found) if found else pa.large_string()
    return pa.field(name, kind) if kind else pa.field(name, pa.large_string(), metadata=JSON)


def _type_of(values: Sequence[Any]) -> pa.DataType | None:
    """Of values that have one type, or are lists of such; None of others, and of objects."""
    kinds = set(map(type, values))
    if kinds == {int, float}:
        return pa.float64()
    if kinds == {list}:
        items = [item for value in values for item in value if item is not None]
        of_items = _type_of(items) if items else None
        is_plain = of_items is not None and not pa.types.is_nested(of_items)
        return pa.list_(of_items) if is_plain else None
    (kind, *others) = kinds
    if others or kind is dict:
        return None
    if kind in SCALARS:
        return SCALARS[kind]
    try:  # dates, decimals, bytes
        return pa.infer_type(values)
    except pa.ArrowException:
        return None


def input_table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """The rows by the schema, with what has no place in it in RESCUED. Pure."""
    known = {*schema.names} - {RESCUED}
    rescued = [
        {} if row.keys() <= known else {name: row[name] for name in row if name not in known}
        for row in rows
    ]
    arrays = {
        field.name: _array([row.get(field.name) for row in rows], field, rescued)
        for field in schema
        if field.name != RESCUED
    }
    if RESCUED in schema.names:
        arrays[RESCUED] = pa.array([*map(_rescued_text, rescued)], RESCUED_FIELD.type)
    else:
        assert not any(rescued), "files of Parquet that agree have no such values"
    return pa.table([arrays[name] for name in schema.names], schema=schema)


def _rescued_text(left: Mapping[str, Any]) -> str | None:
    """What is left of a row, as JSON. A text that the input had there stays as it is where nothing
    else is left, and is one of the values of the JSON otherwise."""
    if left.get(RESCUED, "") is None:
        left = {name: value for name, value in left.items() if name != RESCUED}
    if left.keys() == {RESCUED} and isinstance(left[RESCUED], str):
        text: str = left[RESCUED]
        return text
    return as_json(left).decode() if left else None


def _array(values: list[Any], field: pa.Field, rescued: list[dict[str, Any]]) -> pa.Array:
    if field.metadata == JSON:
        values = [None if value is None else as_json(value).decode() for value in values]
    array = _converted(values, field.type)
    if array is None:
        for place, value in enumerate(values):
            if _converted([value], field.type) is None:
                values[place], rescued[place][field.name] = None, value
        array = _converted(values, field.type)
        assert array is not None
    return array


def _converted(values: Sequence[Any], kind: pa.DataType) -> pa.Array | None:
    """As Arrow has them; None if one would not be the same there. Arrow itself cuts 2.5 to 2, takes
    a text for a list of characters, and drops fields that a struct does not have."""
    expected = _python_types(kind)
    if expected is not None and not {*map(type, values)} <= expected:
        return None
    try:
        array = pa.array(values, kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return None
    if pa.types.is_nested(kind) and not pa.types.is_map(kind):
        read = array.to_pylist()
        if read != values and repr(read) != repr(values):  # NaN is no other NaN
            return None
    return array


@functools.cache
def _python_types(kind: pa.DataType) -> set[type] | None:
    """Of the values that a type of Arrow holds; None where its own check is enough."""
    match kind:
        case _ if pa.types.is_integer(kind):
            return {type(None), int}
        case _ if pa.types.is_floating(kind):
            return {type(None), int, float}
        case _ if pa.types.is_boolean(kind):
            return {type(None), bool}
    return None


def prediction_schema(output: type[BaseModel], example: BaseModel, prefix: str) -> pa.Schema:
    """Of the outputs of a model, of which the example is one: a column for each of their fields.
    Pure."""
    types_of = typing.get_type_hints(output)
    fields = [
        (f"{prefix}{name}", arrow_type(types_of[name], getattr(example, name)))
        for name in output.model_fields
    ]
    return pa.schema([*fields, (f"{prefix}{SCORE}", pa.float64())])


def prediction_columns(output: type[BaseModel], prefix: str) -> frozenset[str]:
    return frozenset(f"{prefix}{name}" for name in (*output.model_fields, SCORE))


def arrow_type(kind: Any, example: Any = None) -> pa.DataType:
    """Of a field of a prediction. Of a union it is the type that the example has: a model that
    gives one label always does."""
    if kind in SCALARS:
        return pa.string() if kind is str else SCALARS[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        members = [member for member in arguments if member is not types.NoneType]
        return arrow_type(next((one for one in members if _is_one(example, one)), members[0]))
    if origin is typing.Annotated:
        return arrow_type(arguments[0], example)
    if origin is typing.Literal:
        return arrow_type(type(arguments[0]))
    if origin is dict:
        return pa.map_(*map(arrow_type, arguments))
    if origin in (list, tuple):
        return pa.list_(arrow_type(arguments[0]))
    assert is_typeddict(kind) or issubclass(kind, BaseModel), kind
    return pa.struct([(name, arrow_type(of)) for name, of in typing.get_type_hints(kind).items()])


def _is_one(value: Any, kind: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def as_json(value: Any) -> bytes:
    """On one line. Dates are texts, bytes base64, and numbers that JSON does not have are null."""
    try:
        return to_json(value, bytes_mode="base64", inf_nan_mode="null", fallback=str)
    except ValueError:  # half of a surrogate pair, which UTF-8 does not have
        return json.dumps(value, default=str).encode()
