"""Which documents pretraining reads: rows of cleaned parts, by split. Pure."""

import dataclasses
from collections.abc import Mapping, Sequence, Set

import numpy as np
import numpy.typing as npt

from trainers.corpora.config import Corpora
from trainers.corpora.documents import Counts, share

SPLITS = ("train", "validation")
HELD_OUT = "held out for fine-tuning"


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of one cleaned part."""

    part: str
    rows: npt.NDArray[np.int64]


def choose(
    keys: Mapping[str, Mapping[str, npt.NDArray[np.uint64]]],
    held_out: Set[int],
    corpora: Corpora,
    seed: int,
) -> tuple[dict[str, list[Rows]], dict[str, Counts]]:
    """Which rows of which part pretraining trains on and validates on. Pure.

    `keys` are the text keys of every cleaned part, by source and name. A text seen before is
    dropped; so is one that is held out for evaluation, wherever it stands.
    """
    seen: set[int] = set()
    chosen: dict[str, list[Rows]] = {split: [] for split in SPLITS}
    counts = {source: Counts() for source in keys}
    for source, parts_keys in keys.items():
        repeat = corpora.sources[source].repeat
        for part, part_keys in parts_keys.items() if repeat else ():
            rows: dict[str, list[int]] = {split: [] for split in SPLITS}
            for row, key in enumerate(map(int, part_keys)):
                if key in seen:
                    counts[source].dropped["exact duplicate"] += 1
                    continue
                seen.add(key)
                if key in held_out:
                    counts[source].dropped[HELD_OUT] += 1
                    continue
                counts[source].kept += 1
                is_validation = share(key, seed, "pretraining") < corpora.validation
                rows["validation" if is_validation else "train"].append(row)
            if rows["train"]:
                chosen["train"] += [Rows(part, np.array(rows["train"]))] * repeat
            if rows["validation"]:
                chosen["validation"].append(Rows(part, np.array(rows["validation"])))
    return chosen, counts


def together(chosen: Mapping[str, Sequence[Rows]]) -> list[Rows]:
    """The chosen rows of every part once, in the order of the recipe."""
    rows: dict[str, list[npt.NDArray[np.int64]]] = {}
    for split in SPLITS:
        for piece in {piece.part: piece for piece in chosen[split]}.values():
            rows.setdefault(piece.part, []).append(piece.rows)
    return [Rows(part, np.sort(np.concatenate(found))) for part, found in rows.items()]


def drop(
    reason: str,
    dropped: Mapping[str, npt.NDArray[np.int64]],
    chosen: dict[str, list[Rows]],
    counts: Mapping[str, Counts],
    sources: Mapping[str, str],
) -> None:
    """Takes each part's `dropped` rows out of `chosen`, and counts them by the part's source."""
    for name, rows in dropped.items():
        if len(rows):
            counts[sources[name]].dropped[reason] += len(rows)
            counts[sources[name]].kept -= len(rows)
    none = np.empty(0, np.int64)
    for split in SPLITS:
        left = [
            Rows(piece.part, np.setdiff1d(piece.rows, dropped.get(piece.part, none)))
            for piece in chosen[split]
        ]
        chosen[split] = [piece for piece in left if len(piece.rows)]


def shards(rows: Sequence[Rows], documents: int) -> list[list[Rows]]:
    """Cut the chosen rows into shards of about as many documents, in order. Pure."""
    made: list[list[Rows]] = [[]]
    room = documents
    for piece in rows:
        start = 0
        while start < len(piece.rows):
            if room == 0:
                made.append([])
                room = documents
            taken = piece.rows[start : start + room]
            made[-1].append(Rows(piece.part, taken))
            start += len(taken)
            room -= len(taken)
    return [shard for shard in made if shard]
