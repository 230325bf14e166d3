"""What `raymill score MODEL IN OUT` is to do, checked before any Ray is started.

    OUT/_plan.json                  model, source, parts, columns: written first
    OUT/part-000000.parquet         a shard: the rows of a part, with their predictions
    OUT/_errors/part-000000.jsonl   its rows that could not be scored, and why
    OUT/_markers/part-000000.json   what became of the part: written when its files are there
    OUT/_manifest.json              what became of all: written last

The files that begin with `_` are passed over by what reads a folder of Parquet. A run that is
killed goes on with the parts without a marker, by the plan that it finds.
"""

import base64
import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.errors import UserError
from cluster.recipe.section import nearest
from cluster.store.lock import locked
from cluster.store.storage import Storage
from trainers.corpora.reading import sources
from trainers.corpora.reading.config import TEXT, Source
from trainers.corpora.reading.formats import archive_of, format_of, parquet
from trainers.corpora.reading.formats.rows import (
    Problem,
    no_column,
    refuse_columns,
    shown_columns,
)
from trainers.corpora.reading.formats.sentences import TOKENS, joined
from trainers.corpora.reading.formats.streams import is_of_content
from trainers.corpora.reading.readers import Document, first_columns, read_whole
from trainers.corpora.reading.sources import Part
from trainers.corpora.text_batches import batched
from trainers.scoring.answers import Row, characters
from trainers.scoring.batch.columns import schema_of_files, schema_of_rows
from trainers.scoring.batch.shards import ENDINGS
from trainers.scoring.model import Model
from trainers.scoring.source import named_source, refuse_missing
from trainers.tasks.spec import TaskSection

PLAN, ERRORS, MARKERS, MANIFEST = "_plan.json", "_errors", "_markers", "_manifest.json"
LOCK = ".lock"
SCHEMA_VERSION = 2
READING = (
    *("dataset", "dataset_split", "revision", "package", "format", "encoding", "delimiter"),
    *("columns", "tagged"),
)
"""Keys of a source that say how its rows are read."""
PART_BYTES = 16 << 20
"""Of uncompressed input: what a lost worker costs again, at most a minute or so on a CPU where a
row takes one forward."""
PART_ROWS = 20_000
SAMPLED_PARTS, SAMPLED_ROWS, SAMPLED_CHARACTERS = 8, 1_000, 8 << 20
"""What is looked at for the columns of rows that do not say them; characters and rows of a part."""
UNREADABLE = "file cannot be read to its end"
"""The reason of a part whose later rows are not known, not even their number."""


@dataclasses.dataclass(frozen=True)
class ScoreJob:
    """What a worker is given. Picklable."""

    model: Model
    source: Source
    """With a column for each input of the task."""
    out: Storage
    format: str
    """Of the shards: parquet or jsonl."""
    prefix: str
    """Of the columns of predictions."""
    schema: pa.Schema
    """Of the columns of the input."""


@dataclasses.dataclass(frozen=True)
class ScorePlan:
    job: ScoreJob
    identity: Mapping[str, Any]
    """What decides the rows of the output."""
    parts: Sequence[Part]
    manifest: dict[str, Any] | None
    """Of an output that is finished."""


def part_name(number: int) -> str:
    return f"part-{number:06d}"


def shard_name(number: int, format: str) -> str:
    return f"{part_name(number)}{ENDINGS[format]}"


def source_of(path: str, overrides: Sequence[str], task: type[TaskSection]) -> Source:
    """IN with the keys of `--set`, and a column for each input of the task. Raises UserError."""
    names = [override.partition("=")[0].strip().partition(".")[0] for override in overrides]
    for name in names:
        if name not in READING:
            known = ", ".join(READING)
            raise UserError(
                f"--set {name}: no key of how IN is read; there are {known}{nearest(name, READING)}"
            )
    source = named_source(path, overrides, "IN")
    form = _input_form(source, task.input_forms or ((*task.sample,),), task.optional_inputs)
    if task.optional_inputs:
        found = first_columns(source, {*form, *task.optional_inputs})
        form = [
            *form,
            *(role for role in task.optional_inputs if (source.columns.get(role) or role) in found),
        ]
    columns = {role: source.columns.get(role) or role for role in form}
    return source.model_copy(update={"columns": {TEXT: None, **columns}})


def _input_form(
    source: Source, forms: Sequence[Sequence[str]], optional: Sequence[str]
) -> Sequence[str]:
    """The roles of its rows: those of the form whose columns are named, or are in its files; the
    first one where neither says it. Raises UserError for columns of no form."""
    fitting = [form for form in forms if source.columns.keys() <= {*form, *optional}]
    reads = ", or ".join(" and ".join(form) for form in forms)
    if not fitting:
        roles = {*itertools.chain(*forms, optional)}
        unknown = [role for role in source.columns if role not in roles]
        if not unknown:
            raise UserError(f"--set columns: the model reads {reads}, one of them")
        raise UserError(f"--set columns.{unknown[0]}: no input of the model, which reads {reads}")
    if len(fitting) == 1:
        return fitting[0]
    known = first_columns(source, {*itertools.chain(*fitting)})
    found = next((form for form in fitting if known.keys() >= {*form}), None)
    if known and not found and not source.columns:
        raise UserError(
            f"{source.path}: the model reads {reads}; columns: {shown_columns(known)}; name what "
            f"is meant, such as --set columns.{forms[-1][0]}={next(iter(known))}"
        )
    return found or fitting[0]


def makes_text(task: type[TaskSection], source: Source) -> bool:
    """Whether the model reads a text, and rows have its words."""
    return TEXT in task.sample and TOKENS in source.columns


def make_plan(
    model: Model,
    source: Source,
    place: str,
    format: str,
    prefix: str,
    tell: Callable[[str], None],
) -> ScorePlan:
    """What there is to do for the output at a place, or what an earlier run has planned there.
    Raises UserError where that was something else, or IN is nothing that can be read."""
    identity = _identity(model, source, format, prefix)
    out = Storage.at(place, key="OUT")
    _refuse_place(out, source, format)
    with alone(out):
        if not out.exists(PLAN):
            parts, schema = _parts_and_schema(source, prefix, model.section, tell)
            plan = {
                "schema_version": SCHEMA_VERSION,
                **identity,
                "parts": [dataclasses.asdict(part) for part in parts],
                "schema": base64.b64encode(schema.serialize()).decode(),
            }
            if not out.exists(PLAN):  # a store has no lock, and to plan may have taken minutes
                out.write(PLAN, json.dumps(plan, ensure_ascii=False).encode())
        plan = plan_of(out, identity)
        manifest = manifest_of(out)
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(plan["schema"])))
    job = ScoreJob(model, source, out, format, prefix, schema)
    return ScorePlan(job, identity, [Part(**part) for part in plan["parts"]], manifest)


@contextlib.contextmanager
def alone(out: Storage) -> Iterator[None]:
    """Raises UserError while another command writes there. An object store has no lock, and no
    write of an object that fails if it is there that pyarrow gives (apache/arrow#44281)."""
    if not out.is_local:
        yield
        return
    busy = f"OUT: another command scores into {out.root}; wait for it, or name another"
    with locked(Path(out.root) / LOCK, busy):
        yield


def plan_of(out: Storage, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The plan that is there. Raises UserError if it is for something else, as where another
    command began at the same time."""
    try:
        plan: dict[str, Any] = json.loads(out.read(PLAN))
    except FileNotFoundError as error:
        raise UserError(f"OUT: {out.root} was deleted meanwhile; run it again") from error
    _refuse_other(out.root, plan, identity)
    return plan


def manifest_of(out: Storage) -> dict[str, Any] | None:
    """None of an output that is not finished."""
    return json.loads(out.read(MANIFEST)) if out.exists(MANIFEST) else None


def _refuse_place(out: Storage, source: Source, format: str) -> None:
    """Raises UserError for an output among other files, or among those of IN."""
    files = out.files("").keys() - {LOCK}
    if files and PLAN not in files:
        raise UserError(
            f"OUT: {out.root} has other files, such as {min(files)}; name a new or empty folder"
        )
    place = out.root if out.is_local else out.root.partition("?")[0]
    if sources.would_find(source, f"{place}/{shard_name(0, format)}"):
        raise UserError(
            f"OUT: what is written to {out.root} would be among the files of IN, {source.path!r}; "
            "name a folder elsewhere"
        )


def _parts_and_schema(
    source: Source, prefix: str, task: type[TaskSection], tell: Callable[[str], None]
) -> tuple[list[Part], pa.Schema]:
    """Raises UserError where IN is nothing that can be read."""
    limits = PART_BYTES // task.row_cost, PART_ROWS // task.row_cost
    parts = sources.parts(source, "IN", *limits, tell=lambda line: tell(f"score: {line}\n"))
    schema = input_schema(source, parts, makes_text(task, source), task.optional_inputs)
    for name in schema.names:
        if name.startswith(prefix):
            raise UserError(
                f"IN: the column {name!r} has a name of those that score adds; rename it, or set "
                "another --prefix"
            )
    return parts, schema


def _identity(model: Model, source: Source, format: str, prefix: str) -> dict[str, Any]:
    """What decides the rows of an output. Raises UserError for files that are not there."""
    refuse_missing(source, "IN")
    keys = source.model_dump(mode="json", include={*READING})
    return {
        "model": model.id,
        "model_files": dict(model.hashes),
        "source": keys,
        "source_state": sources.state_hash(source, "IN"),
        "format": format,
        "prefix": prefix,
    }


def _refuse_other(root: str, plan: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Raises UserError if an output was planned for something else. Pure."""
    if plan.get("schema_version") != SCHEMA_VERSION:
        raise UserError(f"OUT: {root} is of another version of raymill; name a new folder")
    others = {
        "model": f"of {plan['model']}, not of {identity['model']}",
        "model_files": f"of {identity['model']} when its files were others",
        "source": f"that were read by other keys: {plan['source']}",
        "source_state": "of other files, or of these before they changed",
        "format": f"in {plan['format']}",
        "prefix": f"whose predictions begin with {plan['prefix']!r}",
    }
    for key, which in others.items():
        if plan[key] != identity[key]:
            raise UserError(
                f"OUT: {root} has rows {which}; they are not mixed: name another OUT, or delete "
                "that folder"
            )


def input_schema(
    source: Source,
    parts: Sequence[Part],
    has_made_text: bool = False,
    optional: Collection[str] = (),
) -> pa.Schema:
    """The columns of IN, by what its files say or by the first rows of some of them, with those
    that are made. Raises UserError where the inputs of the model are not among them, or none of
    these can be read."""
    files = [*dict.fromkeys(part.file for part in parts if part.file is not None)]
    if files and all(_is_parquet(file, source) for file in files):
        schema = schema_of_files(_fitting(source, files))
        made = [pa.field(TEXT, pa.large_string())] if has_made_text else []
        return pa.schema([*schema, *made])
    some = parts[:: -(-len(parts) // SAMPLED_PARTS) or 1]
    read = [pair for part in some for pair in _first_rows(source, part, has_made_text, optional)]
    problems = [document.problem for document, _ in read]
    first = next(iter(problems), None)
    if first and all(one and one.reason == UNREADABLE for one in problems):
        raise UserError(f"IN: {first.detail}")
    known = [*dict.fromkeys(name for _, row in read for name in row)]
    for role, column in source.wanted.items():
        if known and column not in known and role not in optional:
            raise UserError(f"IN: {no_column(role, column, known)}")
    return schema_of_rows([row for document, row in read if document.problem is None])


def _is_parquet(file: str, source: Source) -> bool:
    return archive_of(file) is None and format_of(file, source.format) == "parquet"


def _fitting(source: Source, files: Sequence[str]) -> list[pa.Schema]:
    """What the files of Parquet that can be scored say. Raises UserError if none can."""
    schemas, misfits = [], []
    with ThreadPoolExecutor(sources.LISTING_THREADS) as pool:
        read = [*pool.map(parquet.schema, files)]
    for file, schema in zip(files, read, strict=True):
        try:
            refuse_columns(file, source.wanted, schema.names, is_whole=True)
        except UserError as error:
            misfits.append(error)
        else:
            schemas.append(schema)
    if not schemas:
        raise misfits[0]
    return schemas


def _first_rows(
    source: Source, part: Part, has_made_text: bool, optional: Collection[str]
) -> list[tuple[Document, Row]]:
    rows = itertools.islice(read_rows(source, part, has_made_text, optional), SAMPLED_ROWS)
    return next(batched(rows, SAMPLED_CHARACTERS, lambda read: characters(read[1])), [])


def read_rows(
    source: Source, part: Part, has_made_text: bool = False, optional: Collection[str] = ()
) -> Iterator[tuple[Document, Row]]:
    """The rows of a part, which may lack any `optional` role, and last of all a problem where its
    file cannot be read further. Rows of words may have the text besides that is made of them, into
    which predictions point."""
    try:
        rows = read_whole(source, part, optional)
        yield from map(_with_text, rows) if has_made_text else rows
    except UserError as error:
        if part.file is None or not is_of_content(error):
            raise
        yield Document(None, None, part.file, Problem(UNREADABLE, str(error))), {}


def _with_text(read: tuple[Document, Row]) -> tuple[Document, Row]:
    document, row = read
    if document.problem is not None:
        return read
    words, problem = document.values[TOKENS], None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        problem = Problem("tokens are no list of words", f"{words!r:.80}")
    elif TEXT in row:
        problem = Problem("a text beside the tokens of which one is made", "name one by --set")
    if problem is not None:
        return dataclasses.replace(document, text=None, problem=problem), row
    made = joined(words)[0]
    return dataclasses.replace(document, text=made), {**row, TEXT: made}
