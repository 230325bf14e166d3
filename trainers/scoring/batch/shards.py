"""The files of a part's rows: a shard of Parquet or JSONL with predictions, and the rows aside."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from trainers.corpora.reading.formats.rows import Problem
from trainers.scoring.answers import Candidate, Row
from trainers.scoring.batch.columns import SCORE, as_json, input_table, prediction_schema

ENDINGS = {"parquet": ".parquet", "jsonl": ".jsonl"}
"""The formats of shards."""
ROW_GROUP_ROWS, ROW_GROUP_BYTES = 1 << 16, 64 << 20
"""Of Parquet; one is in memory."""


class ScoredOutput(NamedTuple):
    output: Any
    score: float | None
    """How certain it is, where its task has one number for that."""


class Shard(Protocol):
    def write(self, rows: Sequence[Row], outputs: Sequence[ScoredOutput]) -> None: ...

    def close(self) -> None:
        """A shard without rows leaves no file."""


class ParquetShard:
    def __init__(self, path: Path, schema: pa.Schema, prefix: str):
        self._path, self._schema, self._prefix = path, schema, prefix
        self._writer: pq.ParquetWriter | None = None
        self._tables: list[pa.Table] = []

    def write(self, rows: Sequence[Row], outputs: Sequence[ScoredOutput]) -> None:
        if not rows:
            return
        self._tables.append(self._table(rows, outputs))
        waiting = sum(table.nbytes for table in self._tables)
        if waiting >= ROW_GROUP_BYTES or sum(map(len, self._tables)) >= ROW_GROUP_ROWS:
            self._flush()

    def _table(self, rows: Sequence[Row], outputs: Sequence[ScoredOutput]) -> pa.Table:
        first = outputs[0].output
        fields = prediction_schema(type(first), first, self._prefix)
        columns = {f"{self._prefix}{SCORE}": [one.score for one in outputs]}
        dumped = [one.output.model_dump() for one in outputs]
        for name in type(first).model_fields:
            columns[f"{self._prefix}{name}"] = [one[name] for one in dumped]
        table = input_table(rows, self._schema)
        for field in fields:
            table = table.append_column(field, pa.array(columns[field.name], field.type))
        return table

    def _flush(self) -> None:
        whole = pa.concat_tables(self._tables)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, whole.schema, compression="zstd")
        self._writer.write_table(whole)
        self._tables = []

    def close(self) -> None:
        if self._tables:
            self._flush()
        if self._writer is not None:
            self._writer.close()


class JsonlShard:
    def __init__(self, path: Path, prefix: str):
        self._lines, self._prefix = Lines(path), prefix

    def write(self, rows: Sequence[Row], outputs: Sequence[ScoredOutput]) -> None:
        for row, (output, score) in zip(rows, outputs, strict=True):
            said = {**output.model_dump(), SCORE: score}
            self._lines.write({**row, **{f"{self._prefix}{name}": said[name] for name in said}})

    def close(self) -> None:
        self._lines.close()


class Lines:
    """JSON objects, one a line; no file without one."""

    def __init__(self, path: Path):
        self._path = path
        self._stream: Any = None

    def write(self, row: Row) -> None:
        if self._stream is None:
            self._path.parent.mkdir(exist_ok=True)
            self._stream = self._path.open("wb")
        self._stream.write(as_json(row) + b"\n")

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


def shard(folder: Path, name: str, format: str, schema: pa.Schema, prefix: str) -> Shard:
    path = folder / f"{name}{ENDINGS[format]}"
    return ParquetShard(path, schema, prefix) if format == "parquet" else JsonlShard(path, prefix)


class Aside:
    """The rows that could not be scored, with the reasons, which are counted."""

    def __init__(self, path: Path):
        self._lines = Lines(path)
        self.reasons: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        """Of each reason, where it was met first, and more of it."""

    def write(self, failure: Candidate) -> None:
        where, row, problem, _ = failure
        assert isinstance(problem, Problem), "that is why it could not be scored"
        self.reasons[problem.reason] += 1
        self.first.setdefault(problem.reason, f"{where}: {problem}")
        told = {"where": where, "reason": problem.reason, "detail": problem.detail}
        self._lines.write(told | ({"row": row} if row else {}))

    def close(self) -> None:
        self._lines.close()
