"""The stage `shard`: sources to a tokenizer and packed Arrow shards, by Ray Data.

    read and clean each file (Ray Data)  ->  drop duplicates, hold out (keys only, here)
        ->  train the tokenizer  ->  tokenize, pack and write each shard (Ray Data)

What a task does depends on its part alone, so the shards are the same at any number of workers.
"""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.artifacts import Draft
from cluster.errors import UserError
from cluster.pipeline import StageJob
from trainers.corpora import contamination, near
from trainers.corpora import tokenizer as tokenizers
from trainers.corpora.clean import too_short_or_long
from trainers.corpora.config import Corpora, Decontaminate, Source
from trainers.corpora.documents import Counts, cleaned, share, split_of, text_key
from trainers.corpora.pack import pack, pieces, read_arrow, to_table, write_arrow
from trainers.corpora.parallel import each
from trainers.corpora.sources import Document, every_text, parts, read

DOCUMENTS, EVALUATION = "documents", "evaluation"
"""Folders inside the draft, deleted before it is published: what was kept of each file, and what
fine-tuning holds out of it for validation and test."""
SPLITS = ("train", "validation")
HELD_OUT = "held out for fine-tuning"
CONTAMINATED = "passage of an evaluation text"
NEAR = "near duplicate"


@dataclasses.dataclass(frozen=True)
class Part:
    """One file of a source, cleaned: `documents/NAME.arrow` holds `text` and `key`; so does
    `evaluation/NAME.arrow`, if it has labels."""

    source: str
    name: str
    counts: Counts


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of one cleaned part."""

    part: str
    rows: npt.NDArray[np.int64]


def run(job: StageJob) -> dict[str, Any]:
    corpora: Corpora = job.recipe.corpora
    seed = job.recipe.seed
    cleaned_parts = _clean_all(job, corpora)
    held_out = [part for part in cleaned_parts if corpora.sources[part.source].is_labelled]
    keys: dict[str, dict[str, npt.NDArray[np.uint64]]] = {}
    for part in cleaned_parts:
        table = _table(job.draft, DOCUMENTS, part.name)
        keys.setdefault(part.source, {})[part.name] = table["key"].to_numpy()
    held_out_keys = [_table(job.draft, EVALUATION, part.name)["key"] for part in held_out]
    chosen, counts = choose(
        keys, {key for of_part in held_out_keys for key in of_part.to_pylist()}, corpora, seed
    )
    if corpora.decontaminate is not None:
        dropped = _contaminated(job, corpora.decontaminate, held_out, chosen)
        _drop(CONTAMINATED, dropped, chosen, counts, cleaned_parts)
    if corpora.deduplicate.similarity is not None:
        found = _near_duplicates(job, corpora.deduplicate.similarity, held_out, chosen)
        _drop(NEAR, found.near, chosen, counts, cleaned_parts)
        _drop(HELD_OUT, found.held_out, chosen, counts, cleaned_parts)
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
    metrics = _pack_all(job, corpora, chosen)
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


def _together(chosen: Mapping[str, Sequence[Rows]]) -> list[Rows]:
    """The chosen rows of every part once, in order."""
    rows: dict[str, list[npt.NDArray[np.int64]]] = {}
    for split in SPLITS:
        for piece in {piece.part: piece for piece in chosen[split]}.values():
            rows.setdefault(piece.part, []).append(piece.rows)
    return [Rows(part, np.sort(np.concatenate(found))) for part, found in sorted(rows.items())]


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
        texts = _texts(draft, [Rows(item["part"], item["rows"])])
        found = [contamination.is_contaminated(text, known) for text in texts]
        return item["part"], item["rows"][np.array(found, dtype=bool)]

    items = [{"part": piece.part, "rows": piece.rows} for piece in _together(chosen)]
    return dict(each(job, items, look, "files decontaminated"))


def _near_duplicates(
    job: StageJob, similarity: float, held_out: Sequence[Part], chosen: Mapping[str, Sequence[Rows]]
) -> near.Duplicates:
    sizes = {part.name: len(_table(job.draft, EVALUATION, part.name)) for part in held_out}
    return near.find(
        job,
        [near.Part(name, EVALUATION, np.arange(size)) for name, size in sizes.items()],
        [near.Part(piece.part, DOCUMENTS, piece.rows) for piece in _together(chosen)],
        similarity,
    )


def _drop(
    reason: str,
    dropped: Mapping[str, npt.NDArray[np.int64]],
    chosen: dict[str, list[Rows]],
    counts: Mapping[str, Counts],
    cleaned_parts: Sequence[Part],
) -> None:
    """Takes rows out of `chosen`, and counts them."""
    sources = {part.name: part.source for part in cleaned_parts}
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
    job: StageJob, corpora: Corpora, chosen: Mapping[str, Sequence[Rows]]
) -> dict[str, Any]:
    draft, length = job.draft, corpora.sequence_length
    items = [
        {"split": split, "number": number, "rows": [(piece.part, piece.rows) for piece in shard]}
        for split in SPLITS
        for number, shard in enumerate(shards(chosen[split], corpora.documents_per_shard))
    ]

    def pack_shard(item: dict[str, Any]) -> dict[str, Any]:
        rows = [Rows(part, np.asarray(numbers)) for part, numbers in item["rows"]]
        tokenizer = tokenizers.load(draft.storage.local(f"{draft.place}/tokenizer"))
        begin, end = _ends(tokenizer)
        texts = list(_texts(draft, rows))
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        cut = [piece for ids in encoded for piece in pieces(ids, begin, end, length)]
        sequences = [[cut[i] for i in together] for together in pack([*map(len, cut)], length)]
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
        table = to_table(sequences, length, pad, len(tokenizer))
        with draft.folder() as folder:
            write_arrow(table, folder / item["split"] / f"{item['number']:05d}.arrow")
        return {
            "split": item["split"],
            "characters": sum(map(len, texts)),
            "text_tokens": sum(map(len, encoded)),
            "tokens": sum(map(len, cut)),
            "sequences": len(sequences),
        }

    totals: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    for row in each(job, items, pack_shard, "shards packed"):
        total = totals[row["split"]]
        for name in ("characters", "text_tokens", "tokens", "sequences"):
            total[name] = total.get(name, 0) + row[name]
    everything = {name: sum(total[name] for total in totals.values()) for name in totals["train"]}
    return {
        "train_tokens": totals["train"]["tokens"],
        "train_sequences": totals["train"]["sequences"],
        "validation_tokens": totals["validation"]["tokens"],
        "validation_sequences": totals["validation"]["sequences"],
        "packing_efficiency": everything["tokens"] / (everything["sequences"] * length),
        "characters_per_token": everything["characters"] / everything["text_tokens"],
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
