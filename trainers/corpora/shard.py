"""The stage `shard`: sources to a tokenizer and packed Arrow shards, by Ray Data.

    clean    a part of a source: its documents, cleaned              cleaning.py
    exact    a bucket of keys: equal and held-out texts              choosing.py
    look     a part: without those, and without quotes of evaluation texts
    near     near duplicates, in steps of its own                    near.py
    choose   a part: what training and validation read
    pack     a shard: tokenized, packed, written                     packing.py

What a task does depends on its item alone, and a finished item leaves a marker; so the shards are
the same bytes at any number of tasks, and however often the stage was killed.
"""

import collections
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from cluster.artifacts import REPORT, Draft
from cluster.errors import UserError
from cluster.pipeline import StageJob
from trainers.corpora.cleaning.documents import Counts, text_key
from trainers.corpora.config import Corpora
from trainers.corpora.duplicates import contamination
from trainers.corpora.examples import held_out_texts
from trainers.corpora.reading.readers import every_text
from trainers.corpora.report.corpus import corpus_page
from trainers.corpora.report.figures import corpus_figures
from trainers.corpora.steps import choosing, near
from trainers.corpora.steps.cleaning import Part, clean, parts_of
from trainers.corpora.steps.packing import Pieces, make_tokenizer, mix, pack_all
from trainers.corpora.steps.selection import SPLITS, Piece


def run(job: StageJob) -> dict[str, Any]:
    parts = parts_of(job.recipe.corpora)
    sources = {part.name: part.source for part in parts}
    counts = clean(job, parts)
    near_duplicates = _drop(job, parts, counts)
    pieces, described = _choose(job, parts, counts)
    for source, count in counts.items():
        job.progress.line(_describe(source, count))
    _refuse_empty(pieces, counts)
    characters = {name: described[name]["characters"] for name in described}
    tokenizer = make_tokenizer(job, pieces, characters)
    mixed, passes = mix(job, pieces, characters, tokenizer)
    packed = pack_all(job, mixed, sources, tokenizer)
    figures = corpus_figures(counts, described, passes, packed, job.recipe.corpora.sequence_length)
    if near_duplicates is not None:
        figures["near_duplicates"] = near_duplicates
    _write_report(job.draft, figures, counts)
    train = figures["splits"]["train"]
    job.progress.line(
        f"{train['tokens']:,} training tokens in {train['sequences']:,} sequences, "
        f"packed {figures['packing_efficiency']:.1%}, "
        f"{figures['characters_per_token']:.2f} characters a token"
    )
    return figures


def _drop(job: StageJob, parts: list[Part], counts: dict[str, Counts]) -> dict[str, Any] | None:
    """Drops what stands elsewhere too, or is held out; returns figures of near duplicates."""
    corpora: Corpora = job.recipe.corpora
    held_out = list(held_out_texts(job.parents["examples"])) if "examples" in job.parents else []
    keys = np.unique(np.array([text_key(text) for text in held_out], np.uint64))
    choosing.exact(job, parts, sum(count.kept for count in counts.values()), keys)
    passages = contamination.passages(())
    if corpora.decontaminate is not None:
        further = [
            text
            for path in corpora.decontaminate.files
            for text in every_text(path, "corpora.decontaminate.files")
        ]
        passages = contamination.passages([*held_out, *further])
    for source, dropped in choosing.look(job, parts, passages):
        counts[source] += dropped
    similarity = corpora.deduplicate.similarity
    if similarity is None:
        return None
    documents = sum(count.kept for count in counts.values())
    return near.find(job, parts, documents, held_out, choosing.KEPT, similarity)


def _choose(
    job: StageJob, parts: list[Part], counts: dict[str, Counts]
) -> tuple[Pieces, dict[str, dict[str, Any]]]:
    """The chosen documents in pieces; characters and lengths by source."""
    pieces: dict[str, dict[str, list[Piece]]] = {split: {} for split in SPLITS}
    described: dict[str, dict[str, Any]] = {}
    for part, dropped, outcome in sorted(
        choosing.choose(job, parts), key=lambda row: row[0].number
    ):
        counts[part.source] += dropped
        of_source = described.setdefault(
            part.source, {"characters": 0, "lengths": collections.Counter()}
        )
        of_source["characters"] += outcome["characters"]
        of_source["lengths"].update(outcome["lengths"])
        for split in SPLITS:
            found = [Piece(part.name, *piece) for piece in outcome["pieces"][split]]
            pieces[split].setdefault(part.source, []).extend(found)
    return pieces, described


def _refuse_empty(pieces: Pieces, counts: Mapping[str, Counts]) -> None:
    for split in SPLITS:
        if not any(pieces[split].values()):
            raise UserError(
                f"corpora.sources: no documents left for {split}; of "
                f"{sum(count.read for count in counts.values())} read, dropped: "
                f"{sum((count.dropped for count in counts.values()), start=Counts().dropped)}"
            )


def _write_report(draft: Draft, figures: dict[str, Any], counts: Mapping[str, Counts]) -> None:
    """Figures and samples, for programs and for people."""
    sources = {
        name: {**of_source, "samples": counts[name].shown_samples()}
        for name, of_source in figures["sources"].items()
    }
    report = {**figures, "sources": sources}
    with draft.folder() as folder:
        (folder / "report.json").write_text(
            json.dumps(report, indent=1, ensure_ascii=False), "utf-8"
        )
        (folder / REPORT).write_text(corpus_page(report, draft.id), "utf-8")


def _describe(source: str, counts: Counts) -> str:
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.dropped.items()))
    return (
        f"{source}: {counts.read:,} documents, dropped: {dropped or 'none'}; kept {counts.kept:,}"
    )
