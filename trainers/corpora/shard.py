"""The stage `shard`: sources to a tokenizer and packed Arrow shards, by Ray tasks.

    clean    a part of a source: its documents, cleaned              steps/clean_parts.py
    exact    a bucket of keys: equal and held-out texts              steps/select.py
    drop     a part: without those
    quotes   a part: without quotes of evaluation texts              steps/quotes.py
    near     near duplicates, in steps of its own                    steps/near_dedup.py
    choose   a part: what training and validation read               steps/select.py
    pack     a shard: tokenized, packed, written                     steps/write_shards.py

What a task does depends on its item alone, and a finished item leaves a marker; so the shards are
the same bytes at any number of tasks, and however often the stage was killed.
"""

import collections
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cluster.errors import UserError
from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import REPORT, Draft
from cluster.store.bases import base_folder
from trainers.corpora.cleaning.documents import Counts, text_key
from trainers.corpora.config import Corpora
from trainers.corpora.examples.stage import further_evaluation_texts, held_out_texts
from trainers.corpora.hashing import distinct
from trainers.corpora.report.corpus import corpus_page
from trainers.corpora.report.figures import corpus_figures
from trainers.corpora.steps import near_dedup, quotes, select
from trainers.corpora.steps.clean_parts import SourcePart, clean, parts_of
from trainers.corpora.steps.shard_assignment import SPLITS, Piece
from trainers.corpora.steps.write_shards import (
    TOKENIZER,
    PackingCounts,
    Pieces,
    mix,
    pack_all,
    train_tokenizer,
)
from trainers.corpora.tokens import tokenizer as tokenizers


def run(job: StageJob) -> dict[str, Any]:
    parts = parts_of(job, job.recipe.corpora.of_pretraining)
    tokenizer = _base_tokenizer(job)
    further = further_evaluation_texts(job.recipe.corpora)
    sources = {part.name: part.source for part in parts}
    counts = clean(job, parts)
    near_duplicates = _drop(job, parts, counts, further)
    pieces, described = _choose(job, parts, counts)
    for source in described:
        job.progress.line(_describe(source, counts[source]))
    _refuse_empty(pieces, counts)
    characters = {name: of_source["characters"]["train"] for name, of_source in described.items()}
    tokenizer = tokenizer or train_tokenizer(job, pieces, characters)
    mixed, passes = mix(job, pieces, characters, tokenizer)
    packed = pack_all(job, mixed, sources, tokenizer)
    _refuse_empty_mixture(packed)
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


def _base_tokenizer(job: StageJob) -> Any:
    """The tokenizer that the recipe names, left in the draft; None if one is to be trained."""
    base = base_folder(job.recipe.corpora.tokenizer.base, job.parents)
    if base is None:
        return None
    loaded = tokenizers.load(base)
    with job.draft.folder() as folder:
        loaded.save_pretrained(folder / TOKENIZER)
    return loaded


def _drop(
    job: StageJob, parts: list[SourcePart], counts: dict[str, Counts], further: list[str]
) -> dict[str, Any] | None:
    """Drops what stands elsewhere too, or is held out, or stands in `further` evaluation texts;
    returns figures of near duplicates."""
    corpora: Corpora = job.recipe.corpora
    examples = job.parents.get("examples")

    def held_out(further: Sequence[str]) -> Iterator[str]:
        yield from held_out_texts(examples) if examples else ()
        yield from further

    keys = distinct(np.fromiter(map(text_key, held_out(further)), np.uint64))
    select.exact(job, parts, sum(count.kept for count in counts.values()), keys)
    if corpora.decontaminate is not None:
        quotes.find_passages(job, held_out, further)
    for source, dropped in select.drop(job, parts):
        counts[source] += dropped
    similarity = corpora.deduplicate.similarity
    if similarity is None:
        return None
    documents = sum(count.kept for count in counts.values())
    return near_dedup.find(job, parts, documents, held_out(further), similarity)


def _choose(
    job: StageJob, parts: list[SourcePart], counts: dict[str, Counts]
) -> tuple[Pieces, dict[str, dict[str, Any]]]:
    """The chosen documents in pieces; by source their characters by split, and their lengths."""
    pieces: dict[str, dict[str, list[Piece]]] = {split: {} for split in SPLITS}
    described: dict[str, dict[str, Any]] = {}
    for part, dropped, outcome in sorted(select.choose(job, parts), key=lambda row: row[0].number):
        counts[part.source] += dropped
        of_source = described.setdefault(
            part.source, {"characters": collections.Counter(), "lengths": collections.Counter()}
        )
        of_source["characters"].update(outcome["characters"])
        of_source["lengths"].update(outcome["lengths"])
        for split in SPLITS:
            found = [Piece(part.name, *piece) for piece in outcome["pieces"][split]]
            pieces[split].setdefault(part.source, []).extend(found)
    return pieces, described


def _refuse_empty(pieces: Pieces, counts: Mapping[str, Counts]) -> None:
    for split in SPLITS:
        if not any(pieces[split].values()):
            total = sum(counts.values(), start=Counts())
            dropped = ", ".join(f"{reason} {n:,}" for reason, n in total.dropped.items())
            hint = "; raise corpora.validation" if split == "validation" else ""
            raise UserError(
                f"corpora.sources: no documents left for {split}; of {total.read:,} read, dropped: "
                f"{dropped or 'none'}{hint}"
            )


def _refuse_empty_mixture(packed: PackingCounts) -> None:
    if not packed["splits"]["train"]["sequences"]:
        raise UserError(
            "corpora.sources: the mixture leaves no training sequence; raise `tokens`, "
            "`corpora.tokens` or `repeat`"
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
