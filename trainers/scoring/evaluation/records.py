"""Records: what a model said of each row, and all that its figures can be taken apart by.

    row, id            the row's place, and which it is
    gold, prediction   labels, or lists of these, or of entities
    score              how certain the model is of its prediction, where the task has a number for
                       that, and the model one for the row
    tokens, truncated  what of the row the model read
    group, characters  and every further column of the rows that is a plain value: slices, such as
                       `source`
    text               as it was cleaned, for people

A task adds what its figures need: written answers have `prompt`, `finish_reason`, `new_tokens`, how
like they are to the true one (`rouge_l`, `chrf`, `exact_match`), and of the true one's learned
tokens `loss`, `right`, `targets`. Places in `gold` and `prediction`, as those of entities, are
places in `text`: code points, from the start to behind the end.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import UserError
from cluster.store.artifacts import Artifact
from trainers.corpora.reading.config import GROUP, LABEL, TEXT

RECORDS = "records.parquet"
PLAIN = (str, bool, int, float)
KNOWN = (
    *("row", "id", "gold", "prediction", "score", "tokens", TEXT),
    *("prompt", "rouge_l", "chrf", "exact_match", "loss", "right", "targets"),
)
"""Keys of a record that are no slices."""

Record = dict[str, Any]


def recorded(
    rows: Iterable[Mapping[str, Any]], records: Iterable[Mapping[str, Any]], first: int
) -> list[Record]:
    """Records of some rows, from the place `first` on, with what is known of each row besides."""
    return [
        {
            "row": number,
            "id": row["id"],
            **record,
            GROUP: row.get(GROUP),
            "characters": len(row[TEXT]),
            **_further(row, record),
            TEXT: row[TEXT],
        }
        for number, (row, record) in enumerate(zip(rows, records, strict=True), first)
    ]


def _further(row: Mapping[str, Any], record: Mapping[str, Any]) -> Record:
    """A row's other plain values. What has no value in a row has none in its record."""
    known = {*KNOWN, LABEL, GROUP, "characters", *record}
    return {name: value for name, value in row.items() if name not in known and is_plain(value)}


def is_plain(value: Any) -> bool:
    """Whether rows can be taken apart by it."""
    return value is None or isinstance(value, PLAIN)


def write(records: Sequence[Record], folder: Path) -> None:
    names = {name: None for record in records for name in record}
    columns = {name: _column([record.get(name) for record in records]) for name in names}
    pq.write_table(pa.table(columns), folder / RECORDS, compression="zstd")


def _column(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # a file's column of several types
        return pa.array([None if value is None else str(value) for value in values])


def read(evaluation: Artifact) -> list[Record]:
    """Raises UserError for those of an evaluation that does not say which rows they are."""
    records: list[Record] = pq.read_table(evaluation.path / RECORDS).to_pylist()
    if records and "id" not in records[0]:
        raise UserError(
            f"{evaluation.id}: its records have no ids, an older raymill wrote it; delete "
            f"{evaluation.storage.root}/{evaluation.id}, and evaluate again"
        )
    return records


def labels_in(value: Any) -> set[str]:
    """The labels of `gold` or `prediction`: of a text, a list of labels, or a list of entities."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, Mapping):
        return {value["label"]}
    return {label for one in value for label in labels_in(one)}
