"""The stage `shard`: sources to a tokenizer and packed Arrow shards, by Ray Data.

    read and clean each file (Ray Data)  ->  drop equal texts, hold out (keys only, here)
        ->  drop quotes of evaluation texts and near duplicates (Ray Data)
        ->  train the tokenizer (here)  ->  tokenize, pack and write each shard (Ray Data)

What a task does depends on its part alone, so the shards are the same at any number of workers.
"""

import collections
import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.artifacts import Draft
from cluster.errors import UserError
from cluster.pipeline import StageJob
from trainers.corpora import contamination, index, near, selection
from trainers.corpora import tokenizer as tokenizers
from trainers.corpora.clean import too_short_or_long
from trainers.corpora.config import Corpora, Decontaminate, Source
from trainers.corpora.documents import Counts, cleaned, split_of, text_key
from trainers.corpora.pack import pack, pieces, read_arrow, to_table, write_arrow
from trainers.corpora.parallel import each
from trainers.corpora.selection import HELD_OUT, SPLITS, Rows, choose, shards
from trainers.corpora.sources import Document, every_text, parts, read

DOCUMENTS, EVALUATION = "documents", "evaluation"
"""Folders inside the draft, deleted before it is published: what was kept of each file, and what
fine-tuning holds out of it for validation and test."""
CONTAMINATED = "passage of an evaluation text"
NEAR = "near duplicate"


@dataclasses.dataclass(frozen=True)
class Part:
    """One file of a source, cleaned: `documents/NAME.arrow` holds `text` and `key`; so does
    `evaluation/NAME.arrow`, if it has labels."""

    source: str
    name: str
    counts: Counts


def run(job: StageJob) -> dict[str, Any]:
    corpora: Corpora = job.recipe.corpora
    cleaned_parts = _clean_all(job, corpora)
    sources = {part.name: part.source for part in cleaned_parts}
    chosen, counts = _select(job, corpora, cleaned_parts, sources)
    for part in cleaned_parts:
        counts[part.source] += dataclasses.replace(part.counts, kept=0)
    for source, count in counts.items():
        job.progress.line(_describe(source, count))
    if not chosen["train"] or not chosen["validation"]:
        empty = "train" if not chosen["train"] else "validation"
        raise UserError(
            f"corpora.sources: no documents left for {empty}; of "
            f"{sum(count.read for count in counts.values())} read, dropped: "
            f"{sum((count.dropped for count in counts.values()), start=Counts().dropped)}"
        )
    _make_tokenizer(job, corpora, chosen["train"])
    metrics = _pack_all(job, corpora, chosen, sources)
    for folder_name in (DOCUMENTS, EVALUATION):
        job.storage.delete(f"{job.draft.place}/{folder_name}")
    report = {
        "sources": {source: count.report() for source, count in counts.items()},
        **metrics,
    }
    samples = {source: count.shown_samples() for source, count in counts.items()}
    with job.draft.folder() as folder:
        (folder / "report.json").write_text(
            json.dumps({**report, "samples": samples}, indent=1, ensure_ascii=False), "utf-8"
        )
    job.progress.line(
        f"{metrics['train_tokens']:,} training tokens in {metrics['train_sequences']:,} sequences, "
        f"packed {metrics['packing_efficiency']:.1%}, "
        f"{metrics['characters_per_token']:.2f} characters a token"
    )
    return report


def _select(
    job: StageJob,
    corpora: Corpora,
    cleaned_parts: Sequence[Part],
    sources: Mapping[str, str],
) -> tuple[dict[str, list[Rows]], dict[str, Counts]]:
    """What pretraining reads, and what was dropped by source."""
    held_out = [part for part in cleaned_parts if corpora.sources[part.source].is_labelled]
    keys: dict[str, dict[str, npt.NDArray[np.uint64]]] = {}
    for part in cleaned_parts:
        table = _table(job.draft, DOCUMENTS, part.name)
        keys.setdefault(part.source, {})[part.name] = table["key"].to_numpy()
    held_out_keys = [_table(job.draft, EVALUATION, part.name)["key"] for part in held_out]
    known = {key for of_part in held_out_keys for key in of_part.to_pylist()}
    chosen, counts = choose(keys, known, corpora, job.recipe.seed)
    if corpora.decontaminate is not None:
        dropped = _contaminated(job, corpora.decontaminate, held_out, chosen)
        selection.drop(CONTAMINATED, dropped, chosen, counts, sources)
    if corpora.deduplicate.similarity is not None:
        found = _near_duplicates(job, corpora.deduplicate.similarity, held_out, chosen)
        selection.drop(NEAR, found.near, chosen, counts, sources)
        selection.drop(HELD_OUT, found.held_out, chosen, counts, sources)
    return chosen, counts


def _contaminated(
    job: StageJob,
    settings: Decontaminate,
    held_out: Sequence[Part],
    chosen: Mapping[str, Sequence[Rows]],
) -> dict[str, npt.NDArray[np.int64]]:
    """Rows that hold a passage of an evaluation text, by part."""
    draft = job.draft
    own = (_table(draft, EVALUATION, part.name)["text"].to_pylist() for part in held_out)
    further = (every_text(path, "corpora.decontaminate.files") for path in settings.files)
    known = contamination.passages(itertools.chain.from_iterable([*own, *further]))
    if not len(known):
        return {}

    def look(item: dict[str, Any]) -> tuple[str, npt.NDArray[np.int64]]:
        piece: Rows = item["piece"]
        texts = _texts(draft, [piece])
        found = [contamination.is_contaminated(text, known) for text in texts]
        return piece.part, piece.rows[np.array(found, dtype=bool)]

    items = [{"piece": piece} for piece in selection.together(chosen)]
    return dict(each(job, items, look, "files decontaminated"))


def _near_duplicates(
    job: StageJob, similarity: float, held_out: Sequence[Part], chosen: Mapping[str, Sequence[Rows]]
) -> near.Duplicates:
    sizes = {part.name: len(_table(job.draft, EVALUATION, part.name)) for part in held_out}
    return near.find(
        job,
        [near.Part(name, EVALUATION, np.arange(size)) for name, size in sizes.items()],
        [near.Part(piece.part, DOCUMENTS, piece.rows) for piece in selection.together(chosen)],
        similarity,
    )


def _clean_all(job: StageJob, corpora: Corpora) -> list[Part]:
    # Labelled sources that pretraining leaves out are read all the same: what they hold out for
    # evaluation must not be learned from elsewhere.
    used = {
        name: source
        for name, source in corpora.sources.items()
        if source.repeat or source.is_labelled
    }
    items = [
        {"source": name, "part": part, "name": f"{name}-{number:05d}"}
        for name, source in used.items()
        for number, part in enumerate(parts(source, f"corpora.sources.{name}"))
    ]
    draft, clean, seed = job.draft, corpora.clean, job.recipe.seed

    def clean_part(item: dict[str, Any]) -> dict[str, Any]:
        source: Source = used[item["source"]]
        counts = Counts()
        name = f"{item['name']}.arrow"
        with draft.folder() as folder:
            kept = cleaned(read(source, item["part"]), clean, counts)
            write_arrow(_to_table(kept), folder / DOCUMENTS / name)
            if source.is_labelled:
                # Also what pretraining would not read: a copy of it elsewhere is a leak.
                labelled = cleaned(read(source, item["part"]), clean, Counts(), too_short_or_long)
                held_out = (
                    document
                    for document in labelled
                    if split_of(text_key(document.text or ""), seed, corpora.split) != "train"
                )
                write_arrow(_to_table(held_out), folder / EVALUATION / name)
        return {**item, "counts": counts}

    done = [
        Part(row["source"], row["name"], row["counts"])
        for row in each(job, items, clean_part, "files cleaned")
    ]
    names = [item["name"] for item in items]
    return sorted(done, key=lambda part: names.index(part.name))


def _to_table(documents: Iterable[Document]) -> pa.Table:
    texts = [document.text for document in documents if document.text is not None]
    return pa.table(
        {
            "text": pa.array(texts, pa.large_string()),
            "key": pa.array([text_key(text) for text in texts], pa.uint64()),
        }
    )


def _table(draft: Draft, folder: str, name: str) -> pa.Table:
    return read_arrow(draft.storage.local(f"{draft.place}/{folder}") / f"{name}.arrow")


def _texts(draft: Draft, rows: Sequence[Rows]) -> Iterator[str]:
    for piece in rows:
        table = _table(draft, DOCUMENTS, piece.part).select(["text"])
        for batch in table.take(pa.array(piece.rows)).to_batches(max_chunksize=4096):
            yield from batch["text"].to_pylist()


def _make_tokenizer(job: StageJob, corpora: Corpora, rows: Sequence[Rows]) -> None:
    settings = corpora.tokenizer
    if settings.base is not None:
        tokenizer = tokenizers.load(settings.base)
    else:
        job.progress.line(f"training a {settings.algorithm} tokenizer")
        budget = settings.training_characters // len(rows)

        def sample() -> Iterator[str]:
            for piece in rows:
                left = budget
                for text in _texts(job.draft, [piece]):
                    yield text
                    left -= len(text)
                    if left <= 0:
                        break

        tokenizer = tokenizers.train(sample(), settings, corpora.sequence_length)
    with job.draft.folder() as folder:
        tokenizer.save_pretrained(folder / "tokenizer")


def _pack_all(
    job: StageJob,
    corpora: Corpora,
    chosen: Mapping[str, Sequence[Rows]],
    sources: Mapping[str, str],
) -> dict[str, Any]:
    draft, length = job.draft, corpora.sequence_length
    items = [
        {"split": split, "number": number, "rows": shard}
        for split in SPLITS
        for number, shard in enumerate(shards(chosen[split], corpora.documents_per_shard))
    ]

    def pack_shard(item: dict[str, Any]) -> dict[str, collections.Counter[str]]:
        tokenizer = tokenizers.load(draft.storage.local(f"{draft.place}/tokenizer"))
        begin, end = _ends(tokenizer)
        texts = [(sources[piece.part], text) for piece in item["rows"]
                 for text in _texts(draft, [piece])]  # fmt: skip
        encoded = tokenizer([text for _, text in texts], add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        cut = [piece for ids in encoded for piece in pieces(ids, begin, end, length)]
        sequences = [[cut[i] for i in together] for together in pack([*map(len, cut)], length)]
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
        table = to_table(sequences, length, pad, len(tokenizer))
        with draft.folder() as folder:
            write_arrow(table, folder / item["split"] / f"{item['number']:05d}.arrow")
        found: dict[str, collections.Counter[str]]
        counted = ("sizes", "characters", "text_tokens", "shards")
        found = {name: collections.Counter() for name in counted}
        found["sizes"][f"{item['split']}_tokens"] = sum(map(len, cut))
        found["sizes"][f"{item['split']}_sequences"] = len(sequences)
        found["shards"][f"{item['split']}/{item['number']:05d}.arrow"] = len(sequences)
        for (source, text), ids in zip(texts, encoded, strict=True):
            found["characters"][source] += len(text)
            found["text_tokens"][source] += len(ids)
        return found

    totals: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for found in each(job, items, pack_shard, "shards packed"):
        for name, counter in found.items():
            totals[name] += counter
    with draft.folder() as folder:
        index.write(index.Index(length, totals["shards"]), folder)
    sizes, characters, tokens = (totals[key] for key in ("sizes", "characters", "text_tokens"))
    packed = sum(sizes[f"{split}_tokens"] for split in SPLITS)
    room = sum(sizes[f"{split}_sequences"] for split in SPLITS) * length
    return {
        **sizes,
        "packing_efficiency": packed / room,
        "characters_per_token": characters.total() / tokens.total(),
        "tokens_per_character": {
            source: tokens[source] / characters[source] for source in sorted(characters)
        },
    }


def _ends(tokenizer: Any) -> tuple[int, int]:
    """Begin and end token of a document: [CLS] and [SEP], or what a causal tokenizer has."""
    begin = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    return (begin if begin is not None else end), end


def _describe(source: str, counts: Counts) -> str:
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.dropped.items()))
    return (
        f"{source}: {counts.read:,} documents, dropped: {dropped or 'none'}; kept {counts.kept:,}"
    )
