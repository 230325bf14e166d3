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

from cluster.artifacts import REPORT
from cluster.errors import UserError
from cluster.pipeline import StageJob
from trainers.corpora.cleaning.documents import Counts, text_key
from trainers.corpora.config import Corpora
from trainers.corpora.duplicates import contamination
from trainers.corpora.examples import held_out_texts
from trainers.corpora.reading.readers import every_text
from trainers.corpora.report.corpus import corpus_page
from trainers.corpora.steps import choosing, near
from trainers.corpora.steps.cleaning import Part, clean, parts_of
from trainers.corpora.steps.packing import Pieces, make_tokenizer, mix, pack_all
from trainers.corpora.steps.selection import SPLITS, Piece
from trainers.corpora.tokens import fertility


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
    report = _report(job.recipe.corpora, counts, described, passes, packed)
    if near_duplicates is not None:
        report["near_duplicates"] = near_duplicates
    samples = {source: count.shown_samples() for source, count in counts.items()}
    with job.draft.folder() as folder:
        whole = {
            **report,
            "sources": {
                name: {**figures, "samples": samples[name]}
                for name, figures in report["sources"].items()
            },
        }
        (folder / "report.json").write_text(
            json.dumps(whole, indent=1, ensure_ascii=False), "utf-8"
        )
        (folder / REPORT).write_text(corpus_page(whole, job.draft.id), "utf-8")
    train = report["splits"]["train"]
    job.progress.line(
        f"{train['tokens']:,} training tokens in {train['sequences']:,} sequences, "
        f"packed {report['packing_efficiency']:.1%}, "
        f"{report['characters_per_token']:.2f} characters a token"
    )
    return report


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


def _report(
    corpora: Corpora,
    counts: Mapping[str, Counts],
    described: Mapping[str, Mapping[str, Any]],
    passes: Mapping[str, float],
    packed: Mapping[str, Mapping[str, collections.Counter[str]]],
) -> dict[str, Any]:
    """Figures of the corpus, by source and by split. Pure."""
    sources = {}
    for name, figures in described.items():
        found = packed["sources"][name]
        sources[name] = {
            **counts[name].report(),
            "characters": figures["characters"],
            "lengths": dict(figures["lengths"]),
            "passes": passes[name],
            "train_tokens": found["train_tokens"],
            "tokens_per_character": found["tokens"] / max(1, found["characters"]),
            **fertility.shares(found),
        }
        sources[name]["tokens"] = round(
            figures["characters"] * sources[name]["tokens_per_character"]
        )
    splits = packed["splits"]
    sequences = sum(of_split["sequences"] for of_split in splits.values())
    characters = sum(found["characters"] for found in packed["sources"].values())
    return {
        "sources": sources,
        "splits": {name: dict(splits[name]) for name in SPLITS},
        "packing_efficiency": sum(of_split["packed_tokens"] for of_split in splits.values())
        / (sequences * corpora.sequence_length),
        "characters_per_token": characters
        / max(1, sum(found["tokens"] for found in packed["sources"].values())),
    }


def _describe(source: str, counts: Counts) -> str:
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.dropped.items()))
    return (
        f"{source}: {counts.read:,} documents, dropped: {dropped or 'none'}; kept {counts.kept:,}"
    )
