"""Properties that packing must have, on random documents."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from trainers.corpora.pack import (
    SHORTEST_PIECE,
    pack,
    pieces,
    read_arrow,
    segment_ids,
    to_table,
    write_arrow,
)

BEGIN, END, PAD = 1, 2, 0


@pytest.mark.parametrize("length", [8, 9, 64])
@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 30, 61, 62, 63, 64, 65, 200])
def test_pieces_cover_a_document_in_order(count: int, length: int) -> None:
    tokens = list(range(10, 10 + count))
    cut = pieces(tokens, BEGIN, END, length)
    assert all(len(piece) <= length for piece in cut)
    assert all((piece[0], piece[-1]) == (BEGIN, END) for piece in cut)
    covered = [token for piece in cut for token in piece[1:-1]]
    assert covered == tokens[: len(covered)]
    lost = count - len(covered)
    assert lost < SHORTEST_PIECE
    assert lost == 0 or len(cut) > 0, "a document is never lost whole"


def test_a_short_rest_is_dropped_and_a_longer_one_is_kept() -> None:
    room = 64 - 2
    assert len(pieces(range(room + SHORTEST_PIECE - 1), BEGIN, END, 64)) == 1
    assert len(pieces(range(room + SHORTEST_PIECE), BEGIN, END, 64)) == 2
    assert len(pieces(range(3), BEGIN, END, 64)) == 1, "a short document is no rest"


@pytest.mark.parametrize("seed", range(20))
def test_every_piece_stands_in_one_sequence_and_none_overflows(seed: int) -> None:
    draw = random.Random(seed)
    capacity = draw.choice([8, 64, 128])
    lengths = [draw.randint(1, capacity) for _ in range(draw.randint(0, 300))]
    bins = pack(lengths, capacity)
    assert sorted(index for together in bins for index in together) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in together) <= capacity for together in bins)


def test_no_two_sequences_would_fit_into_one() -> None:
    draw = random.Random(1)
    lengths = [draw.randint(1, 128) for _ in range(300)]
    fills = sorted(sum(lengths[index] for index in together) for together in pack(lengths, 128))
    assert fills[0] + fills[1] > 128


def test_realistic_lengths_fill_the_sequences() -> None:
    """Sentences and paragraphs: log-normal, the long ones cut."""
    draw = random.Random(3)
    documents = [range(int(draw.lognormvariate(3.3, 0.8)) + 1) for _ in range(3000)]
    lengths = [len(piece) for tokens in documents for piece in pieces(tokens, BEGIN, END, 128)]
    assert sum(lengths) / (128 * len(pack(lengths, 128))) > 0.99


def test_packing_is_a_pure_function() -> None:
    assert pack([5, 3, 5, 2, 8], 8) == pack([5, 3, 5, 2, 8], 8) == [[4], [0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("vocabulary_size", "token"), [(2**16, pa.uint16()), (2**16 + 1, pa.uint32())]
)
def test_sequences_come_back_from_arrow(
    tmp_path: Path, vocabulary_size: int, token: pa.DataType
) -> None:
    packed = [[[BEGIN, 7, END], [BEGIN, 8, 9, END]], [[BEGIN, vocabulary_size - 1, END]]]
    write_arrow(to_table(packed, 8, PAD, vocabulary_size), tmp_path / "train" / "0.arrow")
    table = read_arrow(tmp_path / "train" / "0.arrow")
    assert table.schema.field("input_ids").type == pa.list_(token, 8)
    assert table.to_pylist() == [
        {"input_ids": [1, 7, 2, 1, 8, 9, 2, 0], "piece_lengths": [3, 4]},
        {"input_ids": [1, vocabulary_size - 1, 2, 0, 0, 0, 0, 0], "piece_lengths": [3]},
    ]


@pytest.mark.parametrize(
    ("piece_lengths", "expected"),
    [([3, 2], [1, 1, 1, 2, 2, 0, 0, 0]), ([8], [1] * 8), ([], [0] * 8), ([1, 7], [1] + [2] * 7)],
)
def test_segments_number_the_pieces(piece_lengths: list[int], expected: list[int]) -> None:
    assert segment_ids([[8], piece_lengths], 8).tolist() == [[1] * 8, expected]
