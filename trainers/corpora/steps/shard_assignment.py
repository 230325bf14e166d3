"""Which documents pretraining reads, and in which shard they stand. Pure.

A text seen before is dropped; so is one that is held out for evaluation, wherever it stands.
Whether a text is for validation follows from the text, so equal texts never part.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from trainers.corpora.hashing import mix

SPLITS = ("train", "validation")

Keys = npt.NDArray[np.uint64]


def repeated(keys: Keys) -> npt.NDArray[np.bool_]:
    """Of keys in the order of the recipe: which stood before."""
    _, first = np.unique(keys, return_index=True)
    found = np.ones(len(keys), dtype=bool)
    found[first] = False
    return found


def draws(keys: Keys, seed: int, purpose: str) -> npt.NDArray[np.float64]:
    """A number in [0, 1) that each text draws for a purpose, independent between purposes."""
    digest = hashlib.blake2b(f"{purpose}:{seed}".encode(), digest_size=8).digest()
    salted = mix(keys.astype(np.uint64) ^ np.uint64(int.from_bytes(digest, "big")))
    return (salted >> np.uint64(11)).astype(np.float64) / 2**53


def is_held_out(keys: Keys, seed: int, share: float) -> npt.NDArray[np.bool_]:
    """Of texts by their keys: which pretraining holds out for validation."""
    return draws(keys, seed, "validation") < share


@dataclasses.dataclass(frozen=True)
class Piece:
    """Some of the chosen documents of a part, in order."""

    part: str
    start: int
    stop: int
    """Places among the part's chosen documents of a split."""
    bytes: int
    """Of their texts, in UTF-8."""
    share: float = 1.0
    """Of these documents, those that draw less than this."""


def cut(byte_lengths: npt.NDArray[np.int64], limit: int) -> Iterator[tuple[int, int, int]]:
    """(start, stop, bytes) of runs of documents; only one of a single document is over `limit`."""
    ends = np.cumsum(byte_lengths)
    start = 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield start, stop, int(ends[stop - 1]) - before
        start = stop


def passed(pieces: Sequence[Piece], passes: float) -> list[Piece]:
    """The pieces of a source, as often as an epoch passes over it; at last a share of them."""
    whole, share = int(passes), passes % 1
    last = [
        dataclasses.replace(piece, share=share, bytes=round(piece.bytes * share))
        for piece in pieces
    ]
    return [*pieces] * whole + (last if share else [])


def shards(pieces: Sequence[Piece], limit: int) -> list[list[Piece]]:
    """Pieces together, in order, up to so many bytes of text."""
    made: list[list[Piece]] = []
    room = 0
    for piece in pieces:
        if not made or piece.bytes > room:
            made.append([])
            room = limit
        made[-1].append(piece)
        room -= piece.bytes
    return made
