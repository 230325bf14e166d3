"""Pack documents into sequences of fixed length, and keep them as Arrow.

A sequence holds whole pieces of documents, best fit first; `piece_lengths` says where one ends and
the next begins, so that positions restart and attention never crosses. Pure; tested without Ray.
"""

import bisect
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
Indices = npt.NDArray[np.int64]

SHORTEST_PIECE = 8
"""A shorter last piece of a long document is dropped: it carries too little context."""


def token_type(vocabulary_size: int) -> type[np.uint16] | type[np.uint32]:
    return np.uint16 if vocabulary_size <= 2**16 else np.uint32


def pack_documents(
    documents: Iterable[Tokens], begin: int, end: int, length: int, pad: int, vocabulary_size: int
) -> pa.Table:
    """Documents as rows of `length` tokens: `input_ids`, padded, and `piece_lengths`.

    Documents are cut so that each piece fits a row with its begin and end token. The pieces of a
    row are in order of length, then of the documents. Takes the memory of the documents twice, and
    some 60 bytes a piece.
    """
    tokens = list(documents)
    owners, starts, sizes = cut(np.fromiter(map(len, tokens), np.int64, len(tokens)), length)
    rows = best_fit(sizes + 2, length)
    order = np.lexsort((-sizes, rows))
    owners, starts, sizes, rows = (each[order] for each in (owners, starts, sizes, rows))

    lengths = sizes + 2
    firsts = np.flatnonzero(np.diff(rows, prepend=-1))  # the first piece of every row
    before = np.cumsum(lengths) - lengths
    places = rows * length + before - before[firsts][rows]
    ids = np.full(len(firsts) * length, pad, dtype=token_type(vocabulary_size))
    ids[places] = begin
    ids[places + lengths - 1] = end
    for owner, start, size, place in zip(owners, starts, sizes, places + 1, strict=True):
        ids[place : place + size] = tokens[owner][start : start + size]

    offsets = np.append(firsts, len(rows)).astype(np.int32)
    return pa.table(
        {
            "input_ids": pa.FixedSizeListArray.from_arrays(pa.array(ids), length),
            "piece_lengths": pa.ListArray.from_arrays(offsets, pa.array(lengths.astype(np.int32))),
        }
    )


def cut(sizes: Indices, length: int) -> tuple[Indices, Indices, Indices]:
    """Pieces of documents of these sizes: of which document, from which token, how many tokens."""
    room = length - 2
    counts = -(-sizes // room)
    rests = sizes - (counts - 1) * room
    counts -= (counts > 1) & (rests < SHORTEST_PIECE)
    owners = np.repeat(np.arange(len(sizes)), counts)
    numbers = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = numbers * room
    return owners, starts, np.minimum(sizes[owners] - starts, room)


def kept_tokens(sizes: Iterable[int], length: int) -> int:
    """How many tokens of documents of these sizes stand in rows, without begin and end."""
    _, _, kept = cut(np.fromiter(sizes, np.int64), length)
    return int(kept.sum())


def best_fit(lengths: Indices, capacity: int) -> Indices:
    """The row in which each piece stands: best-fit decreasing.

    From the longest piece to the shortest, each goes to the fullest row that has room, of equal
    ones to the first. Johnson (1973): at most 11/9 of the fewest rows; here far closer, since short
    pieces abound. Pieces of one length are placed together, those of a row with room for several
    at once; so what is left to Python are steps by length and room, of which there are few.
    """
    rows = np.empty(len(lengths), dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    open_rows: dict[int, list[Indices]] = {}  # by the room left
    rooms: list[int] = []  # those of `open_rows`, sorted
    made = at = 0
    sizes, counts = np.unique(lengths, return_counts=True)
    for size, count in zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True):
        until = at + count
        while at < until:
            place = bisect.bisect_left(rooms, size)
            if place < len(rooms):
                room = rooms.pop(place)
                candidates = np.sort(np.concatenate(open_rows.pop(room)), kind="stable")
            else:
                room = capacity
                needed = -(-(until - at) // (capacity // size))
                candidates = np.arange(made, made + needed)
                made += needed
            fit = room // size
            taken = np.repeat(candidates, fit)[: until - at]
            rows[order[at : at + len(taken)]] = taken
            at += len(taken)
            filled, last = divmod(len(taken), fit)
            for some, left in (
                (candidates[:filled], room - fit * size),
                (candidates[filled : filled + (last > 0)], room - last * size),
                (candidates[filled + (last > 0) :], room),
            ):
                if len(some) and left:
                    if left not in open_rows:
                        bisect.insort(rooms, left)
                    open_rows.setdefault(left, []).append(some)
    return rows


def write_arrow(table: pa.Table, path: Path, batch_rows: int | None = None) -> None:
    """One Arrow IPC stream, as `datasets` keeps them too; to be memory-mapped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, batch_rows)


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
