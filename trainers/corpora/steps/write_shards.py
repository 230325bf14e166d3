"""The last steps of a corpus: the mixture, the tokenizer, and the packed shards."""

import collections
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Draft
from trainers.corpora.config import Corpora
from trainers.corpora.feeding import index
from trainers.corpora.steps import mixture
from trainers.corpora.steps.clean_parts import DOCUMENTS
from trainers.corpora.steps.document_file import DocumentFile, Rows
from trainers.corpora.steps.parallel import each
from trainers.corpora.steps.select import CHOSEN
from trainers.corpora.steps.shard_assignment import SPLITS, Piece, draws, passed, shards
from trainers.corpora.tokens import fertility
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.corpora.tokens.pack import kept_tokens, pack_documents, write_arrow

TOKENIZER = "tokenizer"
FERTILITY_CHARACTERS = 200_000
"""Of each source: enough for its tokens a character."""

SAMPLED_FROM_A_PIECE = 4_000
"""Characters at least, so that few pieces are opened for a sample."""

Pieces = Mapping[str, Mapping[str, list[Piece]]]
"""By split and source, in the recipe's order."""
PackingCounts = Mapping[str, Mapping[str, collections.Counter[str]]]
"""What was counted while packing: `splits` and `sources`, by name."""


def train_tokenizer(job: StageJob, pieces: Pieces, characters: Mapping[str, int]) -> Any:
    """Trains the tokenizer on the mixture, in a task; leaves it in the draft."""
    corpora: Corpora = job.recipe.corpora
    draft, settings = job.draft, corpora.tokenizer
    job.progress.line(f"training a {settings.algorithm} tokenizer")
    # Characters stand for tokens: how many of these there are is not known before.
    weights = mixture.passes(corpora, characters)
    mixed = {name: weights[name] * characters[name] for name in weights}
    share = settings.training_characters / sum(mixed.values())

    def train(name: str, item: Pieces) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "true"  # there is no other task now
        texts = (
            text
            for source, amount in mixed.items()
            for text in _sample(draft, item["train"][source], share * amount)
        )
        made = tokenizers.train(texts, settings, corpora.sequence_length, corpora.clean.unicode)
        with draft.folder() as folder:
            made.save_pretrained(folder / TOKENIZER)

    for _ in each(job, "tokenizer", {TOKENIZER: pieces}, train, "tokenizers trained"):
        pass
    return tokenizers.load(draft.storage.local(f"{draft.place}/{TOKENIZER}"))


def mix(
    job: StageJob, pieces: Pieces, characters: Mapping[str, int], tokenizer: Any
) -> tuple[dict[str, list[Piece]], dict[str, float]]:
    """The pieces of each split as an epoch reads them, and the passes over each source, of which
    `characters` are for training."""
    corpora: Corpora = job.recipe.corpora
    tokens = {}
    for name in characters:
        tokens[name] = 0.0  # not asked for where there is no budget
        if corpora.sources[name].has_budget:
            texts = list(_sample(job.draft, pieces["train"][name], FERTILITY_CHARACTERS))
            encoded = sum(map(len, tokenizers.encode(tokenizer.backend_tokenizer, texts)))
            tokens[name] = characters[name] * encoded / max(1, sum(map(len, texts)))
    passes = mixture.passes(corpora, tokens)
    for name, number in passes.items():
        if number > mixture.WORTHWHILE_PASSES:
            job.progress.line(
                f"{name}: an epoch passes over it {number:.1f} times; more than "
                f"{mixture.WORTHWHILE_PASSES} teach little more"
            )
    train = [piece for name in passes for piece in passed(pieces["train"][name], passes[name])]
    validation = [piece for name in passes for piece in pieces["validation"][name]]
    return {"train": train, "validation": validation}, passes


def pack_all(
    job: StageJob,
    mixed: Mapping[str, Sequence[Piece]],
    sources: Mapping[str, str],
    tokenizer: Any,
) -> PackingCounts:
    """Writes the shards."""
    corpora: Corpora = job.recipe.corpora
    draft, length, seed = job.draft, corpora.sequence_length, job.recipe.seed
    limit = round(corpora.shard_megabytes * 1e6)
    begin, end = tokenizers.ends(tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    vocabulary_size, kinds = len(tokenizer), fertility.kinds(tokenizer)
    items = {
        f"{split}-{number:05d}": (split, number, shard)
        for split in SPLITS
        for number, shard in enumerate(shards(mixed[split], limit))
    }

    def pack_shard(name: str, item: tuple[str, int, list[Piece]]) -> Any:
        split, number, shard = item
        saved = draft.storage.local(f"{draft.place}/{TOKENIZER}")
        backend = tokenizers.backend_in(saved, corpora.clean.unicode)
        chosen = _Chosen(draft, split, seed)
        documents = []
        counted: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for piece in shard:
            texts = list(chosen.texts(piece))
            encoded = tokenizers.encode(backend, texts)
            documents += encoded
            of_source = counted[sources[piece.part]]
            of_source["documents"] += len(texts)
            of_source["characters"] += sum(map(len, texts))
            of_source["tokens"] += kept_tokens(map(len, encoded), length)
            of_source.update(fertility.count(kinds, encoded))
        table = pack_documents(documents, begin, end, length, pad, vocabulary_size)
        with draft.folder() as folder:
            write_arrow(table, folder / _shard_file(split, number))
        return {
            "split": split,
            "sequences": table.num_rows,
            "packed_tokens": pc.sum(pc.list_flatten(table["piece_lengths"])).as_py() or 0,
            "sources": counted,
        }

    found: dict[str, dict[str, collections.Counter[str]]] = {
        "splits": collections.defaultdict(collections.Counter),
        "sources": collections.defaultdict(collections.Counter),
    }
    rows = {}
    for name, outcome in each(job, "pack", items, pack_shard, "shards packed"):
        rows[_shard_file(*items[name][:2])] = outcome["sequences"]
        of_split = found["splits"][outcome["split"]]
        of_split.update(
            shards=1, sequences=outcome["sequences"], packed_tokens=outcome["packed_tokens"]
        )
        for source, counted in outcome["sources"].items():
            of_split.update(documents=counted["documents"], tokens=counted["tokens"])
            found["sources"][source].update(counted)
            found["sources"][source].update({f"{outcome['split']}_tokens": counted["tokens"]})
    with draft.folder() as folder:
        index.write(index.Index(length, rows), folder)
    return found


def _shard_file(split: str, number: int) -> str:
    return f"{split}/{number:05d}.arrow"


def _sample(draft: Draft, pieces: Sequence[Piece], characters: float) -> Iterator[str]:
    """Training texts of a source, the first of pieces that are evenly spread: about so many
    characters in all."""
    chosen = _Chosen(draft, "train", seed=0)
    count = min(len(pieces), max(1, int(characters / SAMPLED_FROM_A_PIECE)))
    for number in range(count):
        piece = pieces[number * len(pieces) // count]
        left = characters / count
        for text in chosen.texts(piece):
            if left <= 0:
                break
            yield text
            left -= len(text)


class _Chosen:
    """The chosen documents of a split. A part stays open while pieces of it are asked for."""

    def __init__(self, draft: Draft, split: str, seed: int):
        self._documents, self._rows = draft.worked(DOCUMENTS), draft.worked(f"{CHOSEN}/{split}")
        self._seed = seed
        self._open = functools.lru_cache(maxsize=1)(self._opened)

    def texts(self, piece: Piece) -> Iterator[str]:
        documents, rows = self._open(piece.part)
        rows = rows[piece.start : piece.stop]
        if piece.share < 1:
            rows = rows[draws(documents.keys(rows), self._seed, "mixture") < piece.share]
        return documents.texts(rows)

    def _opened(self, part: str) -> tuple[DocumentFile, Rows]:
        documents = DocumentFile(self._documents / f"{part}.arrow")
        return documents, np.load(self._rows / f"{part}.npy", mmap_mode="r")
