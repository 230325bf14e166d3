"""Rows of Parquet: one batch is in memory at a time, of the columns that are wanted."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import UserError
from trainers.corpora.reading.formats import rows
from trainers.corpora.reading.formats.rows import NOT_UTF8, Row, Rows, Wanted
from trainers.corpora.reading.formats.streams import open_raw, reading

BATCH_ROWS = 1024
BATCH_BYTES = 16 << 20
"""A batch has fewer rows where rows are long."""


def row_group_bytes(file: str) -> list[int]:
    """Uncompressed bytes of every row group."""
    with reading(file), _open(file) as table:
        return [
            table.metadata.row_group(number).total_byte_size
            for number in range(table.num_row_groups)
        ]


def schema(file: str) -> pa.Schema:
    with reading(file), _open(file) as table:
        return table.schema_arrow


def parquet(
    file: str, wanted: Wanted, begin: int = 0, end: int | None = None, is_whole: bool = False
) -> Rows:
    """The rows of a range of row groups; whole, with bytes that are no texts, if `is_whole`."""
    with reading(file), _open(file) as table:
        fields = table.schema_arrow
        rows.refuse_columns(file, wanted, fields.names, is_whole)
        every = is_whole or not wanted
        columns = [name for name in fields.names if every or name in wanted.values()]
        kept_bytes = _of_bytes(fields) - {*wanted.values()} if is_whole else set()
        metadata = table.metadata
        number = first = sum(metadata.row_group(group).num_rows for group in range(begin))
        groups = range(begin, metadata.num_row_groups if end is None else end)
        sized = [metadata.row_group(group) for group in groups]
        count = sum(one.num_rows for one in sized)
        row_bytes = max((one.total_byte_size // max(1, one.num_rows) for one in sized), default=0)
        batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, row_bytes)))
        for batch in table.iter_batches(batch_rows, row_groups=groups, columns=columns):
            for row in _as_bytes(batch).to_pylist():
                number += 1
                share = (number - first) / count
                yield _row(row, f"{file}:row {number}", kept_bytes, share)


def _open(file: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(
            open_raw(file), pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
        )
    except pa.ArrowInvalid as error:
        raise UserError(f"{file}: not a Parquet file: {error}") from error


def _as_bytes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """With texts as bytes, since Parquet does not vouch for UTF-8; and with the numbers that people
    wrote in place of those that short floats hold: 0.1, not 0.10000000149."""
    columns = []
    for column in batch.columns:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
            column = column.cast(pa.large_binary())
        elif pa.types.is_float16(kind) or pa.types.is_float32(kind):
            column = column.cast(pa.string()).cast(pa.float64())
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _of_bytes(fields: pa.Schema) -> set[str]:
    return {
        field.name
        for field in fields
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)
    }


def _row(row: dict[str, object], where: str, kept_bytes: Collection[str], share: float) -> Row:
    """With texts decoded."""
    for name, value in row.items():
        if isinstance(value, bytes) and name not in kept_bytes:
            if len(value) > rows.MAX_ROW_BYTES:
                return Row(where, None, rows.too_long(), share)
            try:
                row[name] = value.decode()
            except UnicodeDecodeError:
                row[name] = NOT_UTF8
    return Row(where, row, share=share)
