"""Which texts may be near duplicates: MinHash signatures (Broder 1997), and locality-sensitive
hashing of their bands (Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, chapter 3). Pure.

Shingles are characters of the text without punctuation, two in scripts like Chinese, where a
character is nearly a word, four else. So one edited character spoils two shingles or four, and
texts of which a tenth was edited still share half of theirs. They are compared with how often they
occur: documents of one family repeat the same phrases, and would look alike by those alone.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from trainers.corpora.cleaning.units import is_cjk
from trainers.corpora.duplicates.components import unique
from trainers.corpora.hashing import mix

Hashes = npt.NDArray[np.uint64]
Signatures = npt.NDArray[np.uint32]
Sketches = npt.NDArray[np.uint8]
"""The lowest byte of each value of a signature: all that a comparison needs, and a quarter of what
it reads (b-bit minwise hashing, Li & König 2010)."""
Lookup = Callable[[npt.NDArray[np.int64]], tuple[Sketches, npt.NDArray[np.int32]]]
"""Sketches of documents by their numbers, and how many shingles each has."""

PERMUTATIONS = 128
SEED = 1
SHINGLE = {"cjk": 2, "other": 4}
SHORT, TINY = 32, 8
"""Shingles. What shorter texts have in common says less, as in `很好` and `很好看`: short ones must
share more, tiny ones all."""
SHORT_SIMILARITY = 0.55
REPRESENTATIVES = 16
"""Of one group, with which the others are compared."""
PAIRS = 2_048
"""Compared at a time: their sketches fit a core's cache."""
CHANCE = 1 / 256
"""That unlike values have the same lowest byte."""
PUNCTUATION = re.compile(r"[\W_]+")
ASCII = "".join(chr(c).lower() if chr(c).isalnum() else " " for c in range(128))
PRIME = np.uint64(1_000_003)


def shingles(texts: Sequence[str], cjk: bool) -> tuple[Hashes, npt.NDArray[np.int32]]:
    """Hashes of the shingles of texts of one kind, text after text, each occurrence in a text as
    one of its own; and how many each text has. A text that is shorter than a shingle is one."""
    size = SHINGLE["cjk" if cjk else "other"]
    letters = [plain(text, cjk).ljust(size, "\0") for text in texts]
    sizes = np.fromiter(map(len, letters), np.int64, len(letters)) - size + 1
    hashes = ngrams("".join(letters), size)
    crossing = np.cumsum(sizes + size - 1)[:-1, None] - np.arange(1, size)
    inside = np.ones(len(hashes), dtype=bool)
    inside[crossing] = False
    return _numbered(hashes[inside], sizes), sizes.astype(np.int32)


def _numbered(hashes: Hashes, sizes: npt.NDArray[np.int64]) -> Hashes:
    """Equal hashes of one text made different. All texts at once: each alters its own first.

    Sorted with their places in the lower bits, which is five times as fast as `argsort`. The upper
    ones, over 40, tell those of one text apart.
    """
    place_bits = np.uint64(len(hashes).bit_length())
    places = np.uint64((1 << int(place_bits)) - 1)
    in_order = hashes ^ np.repeat(mix(np.arange(len(sizes), dtype=np.uint64)), sizes)
    in_order &= ~places
    in_order |= np.arange(len(hashes), dtype=np.uint64)
    in_order.sort()
    upper = in_order >> place_bits
    again = np.flatnonzero(upper[1:] == upper[:-1]) + 1
    # The repetitions of a shingle stand in a row, and its first occurrence before them.
    first = np.flatnonzero(np.diff(again, prepend=-1) != 1)
    counts = np.diff(first, append=len(again))
    occurrence = np.arange(len(again)) - np.repeat(first, counts) + 1
    hashes[(in_order[again] & places).astype(np.int64)] += PRIME * occurrence.astype(np.uint64)
    return hashes


def ngrams(text: str, size: int) -> Hashes:
    """Hashes of a text's character n-grams."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
    count = max(0, len(codes) - size + 1)
    hashes = np.zeros(count, np.uint64)
    for offset in range(size):
        hashes = hashes * PRIME + codes[offset : offset + count]
    return mix(hashes)


def plain(text: str, cjk: bool) -> str:
    """A text without punctuation and case, in scripts like Chinese (`cjk`) also without spaces; the
    text itself if nothing else is in it."""
    if text.isascii():  # byte by byte, three times as fast
        return " ".join(text.translate(ASCII).split()) or text
    return PUNCTUATION.sub("" if cjk else " ", text.casefold()).strip() or text


def signatures(texts: Sequence[str]) -> tuple[Signatures, npt.NDArray[np.int32]]:
    """(texts, PERMUTATIONS) and the number of shingles of each text."""
    signed = np.empty((len(texts), PERMUTATIONS), np.uint32)
    sizes = np.empty(len(texts), np.int32)
    are_cjk = np.fromiter(map(is_cjk, texts), np.bool_, len(texts))
    for cjk in (True, False):
        own = np.flatnonzero(are_cjk == cjk)
        if len(own):
            hashes, sizes[own] = shingles([texts[place] for place in own.tolist()], cjk)
            signed[own] = _minhash(hashes, sizes[own])
    return signed, sizes


def _minhash(hashes: Hashes, sizes: npt.NDArray[np.int32]) -> Signatures:
    from rensa import RMinHash

    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, PERMUTATIONS, SEED)
    return np.array(matrix.to_rows(), np.uint32)


def sketches(found: Signatures) -> Sketches:
    return found.astype(np.uint8)


def band_rows(similarity: float) -> int:
    """Most rows a band, so that texts of this Jaccard similarity meet in one with 90 %."""
    for rows in range(PERMUTATIONS, 1, -1):
        if 1 - (1 - similarity**rows) ** (PERMUTATIONS // rows) >= 0.9:
            return rows
    return 1


def bands(found: Signatures, rows: int) -> Hashes:
    """(texts, bands): equal values are texts that agree in a whole band."""
    count = PERMUTATIONS // rows
    parts = found[:, : count * rows].astype(np.uint64).reshape(len(found), count, rows)
    hashes = np.broadcast_to(np.arange(count, dtype=np.uint64), (len(found), count))
    for row in range(rows):
        hashes = mix(hashes * PRIME + parts[:, :, row])
    return hashes


def alike(
    hashes: Hashes, documents: npt.NDArray[np.int64], sketched: Lookup, similarity: float
) -> npt.NDArray[np.int64]:
    """(edges, 2): of documents with equal band hashes, each that is alike, with the first of its
    group to be compared with.

    In rounds, for all groups at once: what is not like the first of its group is compared with the
    first of those that are left.
    """
    met = _met(hashes)
    known, documents = np.unique(documents[met], return_inverse=True)
    rows, sizes = sketched(known)
    order = np.lexsort((documents, hashes[met]))
    hashes, documents = hashes[met][order], documents[order]
    edges = [np.empty((0, 2), np.int64)]
    for _ in range(REPRESENTATIVES):
        is_first = np.ones(len(hashes), dtype=bool)
        is_first[1:] = hashes[1:] != hashes[:-1]
        firsts = documents[is_first][np.cumsum(is_first) - 1]
        others = ~is_first
        if not others.any():
            break
        one, other = documents[others], firsts[others]
        same = _are_alike(one, other, rows, sizes, similarity)
        edges.append(known[np.stack([one[same], other[same]], axis=1)])
        others[others] = ~same
        hashes, documents = hashes[others], documents[others]
    return unique(np.concatenate(edges))


def _met(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Which stand more than once: few, and found faster than all are sorted with their owners."""
    order = np.argsort(hashes)
    in_order = hashes[order]
    again = in_order[1:] == in_order[:-1]
    met = np.zeros(len(hashes), dtype=bool)
    met[order[1:][again]] = met[order[:-1][again]] = True
    return met


def _are_alike(
    one: npt.NDArray[np.int64],
    other: npt.NDArray[np.int64],
    rows: Sketches,
    sizes: npt.NDArray[np.int32],
    similarity: float,
) -> npt.NDArray[np.bool_]:
    """Whether the sketches in the rows `one` agree with those in `other` as much as is needed."""
    needed = required(np.minimum(sizes[one], sizes[other]), similarity)
    agreeing = [
        (rows.take(one[some], axis=0) == rows.take(other[some], axis=0)).sum(axis=1, dtype=np.uint8)
        for some in (slice(start, start + PAIRS) for start in range(0, len(one), PAIRS))
    ]
    return np.concatenate(agreeing) >= PERMUTATIONS * (needed + (1 - needed) * CHANCE)


def required(sizes: npt.NDArray[np.int32], similarity: float) -> npt.NDArray[np.float64]:
    """The similarity that makes texts of so many shingles duplicates."""
    short = max(similarity, SHORT_SIMILARITY)
    return np.select([sizes < TINY, sizes < SHORT], [1.0, short], similarity)


def alike_among(texts: Sequence[str], similarity: float) -> npt.NDArray[np.int64]:
    """(pairs, 2): places of texts that are alike, as `alike` finds them, of texts in memory."""
    signed, sizes = signatures(texts)
    hashes, found = bands(signed, band_rows(similarity)), sketches(signed)
    owners = np.repeat(np.arange(len(texts)), hashes.shape[1])
    return alike(hashes.ravel(), owners, lambda some: (found[some], sizes[some]), similarity)
