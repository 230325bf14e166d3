"""Pack documents into sequences of fixed length, and keep them as Arrow.

A sequence holds whole pieces of documents, best fit first; `piece_lengths` says where one ends and
the next begins, so that positions restart and attention never crosses. Pure; tested without Ray.
"""

import bisect
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

SHORTEST_PIECE = 8
"""A shorter last piece of a long document is dropped: it carries too little context."""


def pieces(tokens: Sequence[int], begin: int, end: int, length: int) -> list[list[int]]:
    """A document's tokens, cut so that each piece with its begin and end token fits `length`."""
    room = length - 2
    cut = [list(tokens[start : start + room]) for start in range(0, len(tokens), room)]
    if len(cut) > 1 and len(cut[-1]) < SHORTEST_PIECE:
        cut.pop()
    return [[begin, *piece, end] for piece in cut]


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Which pieces stand together: best-fit decreasing. Returns lists of piece indices.

    Johnson (1973): at most 11/9 of the fewest bins; here far closer, since short pieces abound.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    bins: list[list[int]] = []
    open_rooms: list[tuple[int, int]] = []  # (room left, bin), sorted
    for index in order:
        at = bisect.bisect_left(open_rooms, (lengths[index], -1))
        if at == len(open_rooms):
            bins.append([index])
            room, number = capacity - lengths[index], len(bins) - 1
        else:
            room, number = open_rooms.pop(at)
            bins[number].append(index)
            room -= lengths[index]
        if room > 0:
            bisect.insort(open_rooms, (room, number))
    return bins


def schema(length: int, vocabulary_size: int) -> pa.Schema:
    token = pa.uint16() if vocabulary_size <= 2**16 else pa.uint32()
    return pa.schema(
        [("input_ids", pa.list_(token, length)), ("piece_lengths", pa.list_(pa.int32()))]
    )


def to_table(
    packed: list[list[list[int]]], length: int, pad: int, vocabulary_size: int
) -> pa.Table:
    """Sequences as rows; what is left of a row is padding."""
    made = schema(length, vocabulary_size)
    ids = np.full((len(packed), length), pad, dtype=made.field(0).type.value_type.to_pandas_dtype())
    for row, sequence in enumerate(packed):
        flat = [token for piece in sequence for token in piece]
        ids[row, : len(flat)] = flat
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(ids.reshape(-1)), length),
        pa.array([[len(piece) for piece in sequence] for sequence in packed], made.field(1).type),
    ]
    return pa.Table.from_arrays(columns, schema=made)


def write_arrow(table: pa.Table, path: Path) -> None:
    """One Arrow IPC stream, as `datasets` keeps them too; to be memory-mapped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def read_arrow(path: Path) -> pa.Table:
    """The table in such a file, memory-mapped."""
    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def segment_ids(
    piece_lengths: Sequence[Sequence[int] | npt.NDArray[np.int32]], length: int
) -> npt.NDArray[np.int64]:
    """(sequences, length): 1, 2, ... for the pieces of each sequence, 0 for padding."""
    segments = np.zeros((len(piece_lengths), length), dtype=np.int64)
    for row, lengths in zip(segments, piece_lengths, strict=True):
        numbered = np.repeat(np.arange(1, len(lengths) + 1), lengths)
        row[: len(numbered)] = numbered
    return segments
