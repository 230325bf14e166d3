"""The steps that choose which clean documents pretraining reads.

exact   a bucket of keys: what stood before, what is held out
drop    a part: drops those, and finds the passages of evaluation texts that it has
quotes  a part with such passages: drops what quotes, if they are no boilerplate (quotes.py)
near    near duplicates, where the recipe wants that (near_dedup.py)
choose  a part: its rows for training and validation, cut into pieces
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Draft
from trainers.corpora.cleaning.documents import (
    CONTAMINATED,
    EXACT,
    HELD_OUT,
    KEPT,
    NEAR,
    SAMPLES,
    Counts,
    by_bit_length,
)
from trainers.corpora.config import Corpora
from trainers.corpora.steps import near_dedup, quotes
from trainers.corpora.steps.clean_parts import DOCUMENTS, KEY, KEYS, LEFT, SourcePart
from trainers.corpora.steps.document_file import DocumentFile, Rows
from trainers.corpora.steps.parallel import each
from trainers.corpora.steps.shard_assignment import SPLITS, Keys, cut, is_held_out, repeated
from trainers.corpora.steps.shuffle import buckets, collect, deal

DROPS, CHOSEN = "drops", "chosen"
"""Folders of the stage's work: rows to drop, dealt to their parts; `chosen/SPLIT/PART.npy`, the
rows of a split."""
DROP = np.dtype([("row", np.int64), ("held_out", np.bool_)])


def exact(job: StageJob, parts: list[SourcePart], documents: int, held_out: Keys) -> None:
    """Deals the rows of equal and of held-out texts to their parts."""
    draft = job.draft

    def find(name: str, places: range) -> None:
        records = collect(draft.worked(KEYS), places, np.empty(0, KEY))
        again = repeated(records["key"])
        is_held_out = np.isin(records["key"], held_out)
        gone = again | is_held_out
        found = np.empty(gone.sum(), DROP)
        found["row"] = records["row"][gone]
        found["held_out"] = (is_held_out & ~again)[gone]
        with draft.working(DROPS) as folder:
            deal(folder, name, found, records["part"][gone], len(parts))

    for _ in each(job, "exact", buckets(documents), find, "parts searched for equal texts"):
        pass


def drop(job: StageJob, parts: list[SourcePart]) -> Iterable[tuple[str, Counts]]:
    """Writes the rows of every part that are left; what was dropped, by source."""
    draft = job.draft
    looks_for_quotes = job.recipe.corpora.decontaminate is not None

    def drop_of(name: str, part: SourcePart) -> Any:
        documents = DocumentFile(draft.worked(DOCUMENTS) / f"{name}.arrow")
        counts = Counts()
        drops = collect(draft.worked(DROPS), range(part.number, part.number + 1), np.empty(0, DROP))
        for reason, gone in ((EXACT, ~drops["held_out"]), (HELD_OUT, drops["held_out"])):
            _drop(counts, reason, documents, np.sort(drops["row"][gone]))
        rows = np.setdiff1d(np.arange(len(documents)), drops["row"])
        with draft.working(LEFT) as folder:
            np.save(folder / f"{name}.npy", rows)
        has_hits = looks_for_quotes and quotes.leave_hits(draft, name, documents, rows)
        return {"counts": counts.document(), "left": len(rows), "has_hits": has_hits}

    items = {part.name: part for part in parts}
    left, with_hits = 0, []
    for name, outcome in each(job, "drop", items, drop_of, "parts rid of repeats"):
        left += outcome["left"]
        with_hits += [name] * outcome["has_hits"]
        yield items[name].source, Counts.of(outcome["counts"])
    if with_hits:
        for name, counts in _drop_quotes(job, dict(quotes.quoting(draft, with_hits, left))):
            yield items[name].source, counts


def _drop_quotes(job: StageJob, quoting: Mapping[str, Rows]) -> Iterator[tuple[str, Counts]]:
    """Drops these rows of parts."""
    draft = job.draft

    def drop_of(name: str, rows: Rows) -> Any:
        counts = Counts()
        documents = DocumentFile(draft.worked(DOCUMENTS) / f"{name}.arrow")
        _drop(counts, CONTAMINATED, documents, rows)
        left = np.load(draft.worked(LEFT) / f"{name}.npy")
        with draft.working(LEFT) as folder:
            np.save(folder / f"{name}.npy", np.setdiff1d(left, rows))
        return counts.document()

    for name, counts in each(
        job, "quotes", quoting, drop_of, "parts rid of quotes of evaluation texts"
    ):
        yield name, Counts.of(counts)


def choose(
    job: StageJob, parts: list[SourcePart]
) -> Iterable[tuple[SourcePart, Counts, dict[str, Any]]]:
    """Writes the rows of every part by split; yields what was dropped last, and of what is left
    `pieces` and `characters` by split, and `lengths`."""
    corpora: Corpora = job.recipe.corpora
    draft, seed = job.draft, job.recipe.seed

    def choose_of(name: str, part: SourcePart) -> Any:
        source = corpora.sources[part.source]
        documents = DocumentFile(draft.worked(DOCUMENTS) / f"{name}.arrow")
        rows = np.load(draft.worked(LEFT) / f"{name}.npy")
        counts = Counts()
        if corpora.deduplicate.similarity is not None:
            drops = near_dedup.duplicates_of(draft, part)
            for reason, gone in ((NEAR, ~drops["held_out"]), (HELD_OUT, drops["held_out"])):
                _drop(counts, reason, documents, rows[np.sort(drops["place"][gone])])
            rows = np.delete(rows, drops["place"])
        _sample(counts, KEPT, documents, rows)
        held_out = is_held_out(documents.keys(rows), seed, corpora.held_out_share(source))
        by_split = {"train": rows[~held_out], "validation": rows[held_out]}
        lengths = {split: documents.lengths(by_split[split], pc.utf8_length) for split in SPLITS}
        return {
            "counts": counts.document(),
            "pieces": {
                split: _write_pieces(draft, name, split, documents, by_split[split], corpora)
                for split in SPLITS
            },
            "characters": {split: int(lengths[split].sum()) for split in SPLITS},
            "lengths": by_bit_length(np.concatenate([*lengths.values()])),
        }

    items = {part.name: part for part in parts}
    for name, outcome in each(job, "choose", items, choose_of, "parts split"):
        yield items[name], Counts.of(outcome["counts"]), outcome


def _write_pieces(
    draft: Draft, name: str, split: str, documents: DocumentFile, rows: Rows, corpora: Corpora
) -> list[tuple[int, int, int]]:
    with draft.working(f"{CHOSEN}/{split}") as folder:
        np.save(folder / f"{name}.npy", rows)
    limit = round(corpora.shard_megabytes * 1e6)
    return list(cut(documents.lengths(rows, pc.binary_length), limit))


def _drop(counts: Counts, reason: str, documents: DocumentFile, rows: Rows) -> None:
    if len(rows):
        counts.dropped[reason] += len(rows)
        counts.kept -= len(rows)
        _sample(counts, reason, documents, rows)


def _sample(counts: Counts, reason: str, documents: DocumentFile, rows: Rows) -> None:
    keys = documents.keys(rows)
    lowest = np.sort(np.argsort(keys)[:SAMPLES])
    for key, text in zip(keys[lowest].tolist(), documents.texts(rows[lowest]), strict=True):
        counts.sample(reason, key, text)
