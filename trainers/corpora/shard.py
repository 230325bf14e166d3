"""The stage `shard`: sources to a tokenizer and packed Arrow shards, by Ray Data.

    read and clean each file (Ray Data)  ->  drop duplicates, hold out (keys only, here)
        ->  train the tokenizer  ->  tokenize, pack and write each shard (Ray Data)

What a task does depends on its part alone, so the shards are the same at any number of workers.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.artifacts import Draft
from cluster.errors import UserError
from cluster.pipeline import StageJob
from trainers.corpora import near
from trainers.corpora import tokenizer as tokenizers
from trainers.corpora.config import Corpora, Source
from trainers.corpora.documents import Counts, cleaned, share, split_of, text_key
from trainers.corpora.near import DOCUMENTS
from trainers.corpora.pack import pack, pieces, read_arrow, to_table, write_arrow
from trainers.corpora.parallel import each
from trainers.corpora.sources import parts, read

SPLITS = ("train", "validation")
HELD_OUT = "held out for fine-tuning"


@dataclasses.dataclass(frozen=True)
class Part:
    """One file of a source, cleaned: `documents/NAME.arrow` holds `text` and `key`."""

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
    chosen, counts = choose(_keys(job.draft, cleaned_parts), corpora, seed)
    if corpora.deduplicate.similarity is not None:
        _drop_near_duplicates(job, cleaned_parts, chosen, counts)
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
    job.storage.delete(f"{job.draft.place}/{DOCUMENTS}")
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
    keys: Mapping[str, list[tuple[str, npt.NDArray[np.uint64]]]], corpora: Corpora, seed: int
) -> tuple[dict[str, list[Rows]], dict[str, Counts]]:
    """Which rows of which part pretraining trains on and validates on, and which fine-tuning holds
    out. Pure.

    `keys` are the text keys of every cleaned part, by source. A text seen before is dropped; a text
    that a labelled source holds out for validation or test is dropped wherever it stands.
    """
    held_out = {
        int(key)
        for source, listed in keys.items()
        if corpora.sources[source].is_labelled
        for _, part_keys in listed
        for key in part_keys
        if split_of(int(key), seed, corpora.split) != "train"
    }
    seen: set[int] = set()
    chosen: dict[str, list[Rows]] = {split: [] for split in (*SPLITS, HELD_OUT)}
    counts = {source: Counts() for source in keys}
    for source, listed in keys.items():
        repeat = corpora.sources[source].repeat
        for part, part_keys in listed if repeat else ():
            rows: dict[str, list[int]] = {split: [] for split in chosen}
            for row, key in enumerate(map(int, part_keys)):
                if key in seen:
                    counts[source].dropped["exact duplicate"] += 1
                    continue
                seen.add(key)
                if key in held_out:
                    counts[source].dropped[HELD_OUT] += 1
                    rows[HELD_OUT].append(row)
                    continue
                counts[source].kept += 1
                is_validation = share(key, seed, "pretraining") < corpora.validation
                rows["validation" if is_validation else "train"].append(row)
            for split, found in rows.items():
                if found:
                    times = repeat if split == "train" else 1
                    chosen[split] += [Rows(part, np.array(found))] * times
    return chosen, counts


def _drop_near_duplicates(
    job: StageJob,
    cleaned_parts: Sequence[Part],
    chosen: dict[str, list[Rows]],
    counts: dict[str, Counts],
) -> None:
    """Takes near duplicates out of `chosen`, and counts them."""
    sources = {part.name: part.source for part in cleaned_parts}
    rows: dict[str, list[npt.NDArray[np.int64]]] = {}
    for split in SPLITS:
        for piece in {piece.part: piece for piece in chosen[split]}.values():
            rows.setdefault(piece.part, []).append(piece.rows)
    found = near.find(
        job,
        [near.Part(piece.part, piece.rows) for piece in chosen[HELD_OUT]],
        [near.Part(name, np.sort(np.concatenate(rows[name]))) for name in sources if name in rows],
        job.recipe.corpora.deduplicate.similarity,
    )
    for reason, dropped in (("near duplicate", found.near), (HELD_OUT, found.held_out)):
        for name, of_part in dropped.items():
            if len(of_part):
                counts[sources[name]].dropped[reason] += len(of_part)
                counts[sources[name]].kept -= len(of_part)
                for split in SPLITS:
                    chosen[split] = [
                        Rows(piece.part, np.setdiff1d(piece.rows, of_part, assume_unique=True))
                        if piece.part == name
                        else piece
                        for piece in chosen[split]
                    ]
    for split in SPLITS:
        chosen[split] = [piece for piece in chosen[split] if len(piece.rows)]


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
    draft, clean = job.draft, corpora.clean

    def clean_part(item: dict[str, Any]) -> dict[str, Any]:
        source: Source = used[item["source"]]
        counts = Counts()
        documents = list(cleaned(read(source, item["part"]), clean, counts))
        texts = [document.text for document in documents if document.text is not None]
        table = pa.table(
            {
                "text": pa.array(texts, pa.large_string()),
                "key": pa.array([text_key(text) for text in texts], pa.uint64()),
            }
        )
        with draft.folder() as folder:
            write_arrow(table, folder / DOCUMENTS / f"{item['name']}.arrow")
        return {**item, "counts": counts}

    done = [
        Part(row["source"], row["name"], row["counts"])
        for row in each(job, items, clean_part, "files cleaned")
    ]
    names = [item["name"] for item in items]
    return sorted(done, key=lambda part: names.index(part.name))


def _keys(
    draft: Draft, cleaned_parts: Sequence[Part]
) -> dict[str, list[tuple[str, npt.NDArray[np.uint64]]]]:
    keys: dict[str, list[tuple[str, npt.NDArray[np.uint64]]]] = {}
    folder = draft.storage.local(f"{draft.place}/{DOCUMENTS}")
    for part in cleaned_parts:
        table = read_arrow(folder / f"{part.name}.arrow")
        keys.setdefault(part.source, []).append((part.name, table["key"].to_numpy()))
    return keys


def _texts(draft: Draft, rows: Sequence[Rows]) -> Iterator[str]:
    folder = draft.storage.local(f"{draft.place}/{DOCUMENTS}")
    for piece in rows:
        table = read_arrow(folder / f"{piece.part}.arrow").select(["text"])
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
