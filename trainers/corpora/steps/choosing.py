"""The steps that choose which clean documents pretraining reads.

exact   a bucket of keys: what stood before, what is held out
look    a part: drops those, and finds the passages of evaluation texts that it has
quotes  a part with such passages: drops what quotes, if they are no boilerplate
near    near duplicates, where the recipe wants that (near.py)
choose  a part: its rows for training and validation, cut into pieces
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from cluster.artifacts import Draft
from cluster.pipeline import StageJob
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
from trainers.corpora.duplicates.contamination import Passages, boilerplate
from trainers.corpora.steps import near
from trainers.corpora.steps.cleaning import DOCUMENTS, KEY, KEYS, Part
from trainers.corpora.steps.document_file import DocumentFile, Rows
from trainers.corpora.steps.exchange import buckets, collect, deal, one
from trainers.corpora.steps.parallel import each
from trainers.corpora.steps.selection import SPLITS, Keys, cut, draws, repeated

DROPS, LEFT, HITS, CHOSEN = "drops", "left", "hits", "chosen"
"""Folders of the stage's work: rows to drop, dealt to their parts; `left/PART.npy`, rows that are
left; `hits/PART.npy`, passages of evaluation texts in a part that has some;
`chosen/SPLIT/PART.npy`, the rows of a split."""
DROP = np.dtype([("row", np.int64), ("held_out", np.bool_)])


def exact(job: StageJob, parts: list[Part], documents: int, held_out: Keys) -> None:
    """Deals the rows of equal and of held-out texts to their parts."""
    draft = job.draft

    def drop(name: str, places: range) -> None:
        records = collect(draft.worked(KEYS), places, np.empty(0, KEY))
        again = repeated(records["key"])
        is_held_out = np.isin(records["key"], held_out)
        gone = again | is_held_out
        found = np.empty(gone.sum(), DROP)
        found["row"] = records["row"][gone]
        found["held_out"] = (is_held_out & ~again)[gone]
        with draft.working(DROPS) as folder:
            deal(folder, name, found, records["part"][gone], len(parts))

    for _ in each(job, "exact", buckets(documents), drop):
        pass


def look(job: StageJob, parts: list[Part], passages: Passages) -> Iterable[tuple[str, Counts]]:
    """Writes the rows of every part that are left; what was dropped, by source."""
    draft = job.draft

    def look_at(name: str, part: Part) -> Any:
        documents = DocumentFile(draft.worked(DOCUMENTS) / f"{name}.arrow")
        counts = Counts()
        drops = collect(draft.worked(DROPS), one(part.number), np.empty(0, DROP))
        for reason, gone in ((EXACT, ~drops["held_out"]), (HELD_OUT, drops["held_out"])):
            _drop(counts, reason, documents, np.sort(drops["row"][gone]))
        rows = np.setdiff1d(np.arange(len(documents)), drops["row"])
        with draft.working(LEFT) as folder:
            np.save(folder / f"{name}.npy", rows)
        hits = passages.hits(documents.texts(rows), rows.tolist()) if passages else ()
        if len(hits):
            with draft.working(HITS) as folder:
                np.save(folder / f"{name}.npy", hits)
        return {"counts": counts.document(), "left": len(rows), "has_hits": len(hits) > 0}

    items = {part.name: part for part in parts}
    left, with_hits = 0, set()
    for name, outcome in each(job, "look", items, look_at):
        left += outcome["left"]
        with_hits |= {name} if outcome["has_hits"] else set()
        yield items[name].source, Counts.of(outcome["counts"])
    if with_hits:
        yield from _drop_quotes(job, [items[name] for name in sorted(with_hits)], passages, left)


def _drop_quotes(
    job: StageJob, parts: list[Part], passages: Passages, document_count: int
) -> Iterable[tuple[str, Counts]]:
    """Of parts with passages of evaluation texts, drops the documents that quote one."""
    draft = job.draft
    documents_with = np.zeros(len(passages), np.int64)
    for part in parts:
        hits = np.load(draft.worked(HITS) / f"{part.name}.npy")
        documents_with += passages.documents_with(hits)
    is_boilerplate = boilerplate(documents_with, document_count)

    def drop(name: str, part: Part) -> Any:
        rows = passages.quoting(np.load(draft.worked(HITS) / f"{name}.npy"), is_boilerplate)
        counts = Counts()
        if len(rows):
            _drop(
                counts, CONTAMINATED, DocumentFile(draft.worked(DOCUMENTS) / f"{name}.arrow"), rows
            )
            left = np.load(draft.worked(LEFT) / f"{name}.npy")
            with draft.working(LEFT) as folder:
                np.save(folder / f"{name}.npy", np.setdiff1d(left, rows))
        return counts.document()

    items = {part.name: part for part in parts}
    for name, counts in each(job, "quotes", items, drop):
        yield items[name].source, Counts.of(counts)


def choose(job: StageJob, parts: list[Part]) -> Iterable[tuple[Part, Counts, dict[str, Any]]]:
    """Writes the rows of every part by split; yields what was dropped last, and of what is left
    `pieces` and `characters` by split, and `lengths`."""
    corpora: Corpora = job.recipe.corpora
    draft, seed = job.draft, job.recipe.seed

    def choose_of(name: str, part: Part) -> Any:
        source = corpora.sources[part.source]
        documents = DocumentFile(draft.worked(DOCUMENTS) / f"{name}.arrow")
        rows = np.load(draft.worked(LEFT) / f"{name}.npy")
        counts = Counts()
        if corpora.deduplicate.similarity is not None:
            drops = near.found(draft, part)
            for reason, gone in ((NEAR, ~drops["held_out"]), (HELD_OUT, drops["held_out"])):
                _drop(counts, reason, documents, rows[np.sort(drops["place"][gone])])
            rows = np.delete(rows, drops["place"])
        _sample(counts, KEPT, documents, rows)
        drawn = draws(documents.keys(rows), seed, "validation")
        held = corpora.validation if source.validation is None else source.validation
        by_split = {"train": rows[drawn >= held], "validation": rows[drawn < held]}
        lengths = {split: documents.character_lengths(by_split[split]) for split in SPLITS}
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
    for name, outcome in each(job, "choose", items, choose_of):
        yield items[name], Counts.of(outcome["counts"]), outcome


def _write_pieces(
    draft: Draft, name: str, split: str, documents: DocumentFile, rows: Rows, corpora: Corpora
) -> list[tuple[int, int, int]]:
    with draft.working(f"{CHOSEN}/{split}") as folder:
        np.save(folder / f"{name}.npy", rows)
    limit = round(corpora.shard_megabytes * 1e6)
    return list(cut(documents.byte_lengths(rows), limit))


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
