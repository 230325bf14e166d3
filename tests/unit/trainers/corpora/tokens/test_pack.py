"""Properties that packing must have, on random documents."""

import bisect
import random
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from trainers.corpora.tokens.pack import (
    SHORTEST_PIECE,
    best_fit,
    kept_tokens,
    pack_documents,
    read_arrow,
    segment_ids,
    write_arrow,
)

BEGIN, END, PAD = 1, 2, 0


def documents(sizes: Sequence[int], vocabulary_size: int = 1000) -> list[Any]:
    """No two tokens in a row are the same."""
    counted = np.arange(sum(sizes), dtype=np.uint32) % (vocabulary_size - 10) + 10
    return np.split(counted, np.cumsum(sizes)[:-1]) if len(sizes) else []


def rows(table: pa.Table) -> list[list[list[int]]]:
    """The pieces of every row."""
    found = []
    for row in table.to_pylist():
        ends = np.cumsum(row["piece_lengths"])
        found.append([ids.tolist() for ids in np.split(np.array(row["input_ids"]), ends)[:-1]])
    return found


def packed(of: Sequence[Any], length: int, vocabulary_size: int = 1000) -> pa.Table:
    return pack_documents(of, BEGIN, END, length, PAD, vocabulary_size)


def expected_rows(of: Sequence[Any], length: int) -> list[list[list[int]]]:
    """Cutting and best-fit decreasing as the books have them, a piece at a time."""
    pieces: list[list[int]] = []
    for tokens in of:
        cut = [tokens[at : at + length - 2].tolist() for at in range(0, len(tokens), length - 2)]
        if len(cut) > 1 and len(cut[-1]) < SHORTEST_PIECE:
            cut.pop()
        pieces += [[BEGIN, *piece, END] for piece in cut]
    made: list[list[list[int]]] = []
    rooms: list[tuple[int, int]] = []  # (room left, row), sorted
    for piece in sorted(pieces, key=lambda piece: -len(piece)):
        at = bisect.bisect_left(rooms, (len(piece), -1))
        if at == len(rooms):
            made.append([])
            room, row = length, len(made) - 1
        else:
            room, row = rooms.pop(at)
        made[row].append(piece)
        bisect.insort(rooms, (room - len(piece), row))
    return made


@pytest.mark.parametrize("seed", range(60))
def test_rows_are_those_of_the_plain_algorithm(seed: int) -> None:
    draw = random.Random(seed)
    length = draw.choice([3, 8, 9, 16, 64, 128])
    longest = draw.choice([length // 2, length, 4 * length])
    of = documents([draw.randint(0, longest) for _ in range(draw.choice([0, 1, 2, 50, 300]))])
    assert rows(packed(of, length)) == expected_rows(of, length)


@pytest.mark.parametrize("length", [8, 9, 64])
@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 30, 61, 62, 63, 64, 65, 200])
def test_pieces_cover_a_document_in_order(count: int, length: int) -> None:
    (tokens,) = documents([count])
    pieces = [piece for row in rows(packed([tokens], length)) for piece in row]
    assert all(len(piece) <= length for piece in pieces)
    assert all((piece[0], piece[-1]) == (BEGIN, END) for piece in pieces)
    covered = sorted(token for piece in pieces for token in piece[1:-1])
    assert covered == tokens[: len(covered)].tolist()
    lost = count - len(covered)
    assert lost < SHORTEST_PIECE
    assert lost == 0 or len(pieces) > 0, "a document is never lost whole"


def test_a_short_rest_is_dropped_and_a_longer_one_is_kept() -> None:
    room = 64 - 2

    def pieces(count: int) -> int:
        return sum(map(len, rows(packed(documents([count]), 64))))

    assert pieces(room + SHORTEST_PIECE - 1) == 1
    assert pieces(room + SHORTEST_PIECE) == 2
    assert pieces(3) == 1, "a short document is no rest"


def test_what_is_counted_is_what_stands_in_rows() -> None:
    sizes = [0, 3, 30, 33, 60, 61, 68]
    table = pack_documents([np.ones(size, np.uint16) for size in sizes], 2, 3, 32, 0, 100)
    standing = int((np.array(table["input_ids"].to_pylist()) == 1).sum())
    assert kept_tokens(sizes, 32) == standing == sum(sizes) - 3 - 1


def test_no_two_sequences_would_fit_into_one() -> None:
    draw = random.Random(1)
    lengths = np.array([draw.randint(1, 128) for _ in range(300)])
    fills = sorted(np.bincount(best_fit(lengths, 128), weights=lengths))
    assert fills[-1] <= 128
    assert fills[0] + fills[1] > 128


def test_realistic_lengths_fill_the_sequences() -> None:
    """Sentences and paragraphs: log-normal, the long ones cut."""
    draw = random.Random(3)
    table = packed(documents([int(draw.lognormvariate(3.3, 0.8)) + 1 for _ in range(3000)]), 128)
    assert sum(map(sum, table["piece_lengths"].to_pylist())) / (128 * len(table)) > 0.99


def test_packing_takes_the_memory_of_the_tokens_once_more() -> None:
    draw = random.Random(5)
    of = [
        np.full(int(draw.lognormvariate(5.5, 0.8)) + 1, 7, dtype=np.uint16) for _ in range(10_000)
    ]
    tokens = sum(document.nbytes for document in of)
    tracemalloc.start()
    packed(iter(of), 512)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * tokens


@pytest.mark.parametrize(
    ("vocabulary_size", "token"), [(2**16, pa.uint16()), (2**16 + 1, pa.uint32())]
)
def test_sequences_come_back_from_arrow(
    tmp_path: Path, vocabulary_size: int, token: pa.DataType
) -> None:
    last = vocabulary_size - 1
    of = [np.array(tokens, dtype=np.uint32) for tokens in ([7, last], [8], [9, 10, 11, 12, 13])]
    write_arrow(packed(of, 8, vocabulary_size), tmp_path / "train" / "0.arrow")
    table = read_arrow(tmp_path / "train" / "0.arrow")
    assert table.schema == pa.schema(
        [("input_ids", pa.list_(token, 8)), ("piece_lengths", pa.list_(pa.int32()))]
    )
    assert table.to_pylist() == [
        {"input_ids": [1, 9, 10, 11, 12, 13, 2, 0], "piece_lengths": [7]},
        {"input_ids": [1, 7, last, 2, 1, 8, 2, 0], "piece_lengths": [4, 3]},
    ]


@pytest.mark.parametrize(
    ("piece_lengths", "expected"),
    [([3, 2], [1, 1, 1, 2, 2, 0, 0, 0]), ([8], [1] * 8), ([], [0] * 8), ([1, 7], [1] + [2] * 7)],
)
def test_segments_number_the_pieces(piece_lengths: list[int], expected: list[int]) -> None:
    assert segment_ids([[8], piece_lengths], 8).tolist() == [[1] * 8, expected]
