"""A corpus like one that the stage `shard` has still to make: its tokenizer has as many pieces, its
sequences are as long. A sequence is one document: no packing has more to learn from."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from trainers.corpora.feeding import index
from trainers.corpora.tokens.pack import pack_documents, write_arrow
from trainers.corpora.tokens.tokenizer import BEGIN, END, MASK, PAD, SPECIAL_TOKENS, UNKNOWN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def corpus(
    folder: Path, vocabulary_size: int, sequence_length: int, rows: int, held_out: int = 8
) -> Artifact:
    """Of `rows` sequences to train on, and some for validation that are the same, in a workspace at
    `folder`; its text is random."""
    drawn = np.random.default_rng(17)
    first, size = len(SPECIAL_TOKENS), sequence_length - 2
    documents = drawn.integers(first, vocabulary_size, (rows, size), dtype=np.uint32)
    table = pack_documents(list(documents), 2, 3, sequence_length, 0, vocabulary_size)
    tables = {"train/00000.arrow": table, "validation/00000.arrow": table[:held_out]}
    shards = {name: each.num_rows for name, each in tables.items()}
    with artifacts.drafting(Storage.at(str(folder)), "corpus/stand-in-shard-00") as draft:
        with draft.folder() as written:
            for name, each in tables.items():
                write_arrow(each, written / name)
            index.write(index.Index(sequence_length, shards), written)
            tokenizer(vocabulary_size).save_pretrained(written / "tokenizer")
        return draft.publish(recipe="stand-in", stage="shard", parents={}, inputs={}, metrics={})


def tokenizer(vocabulary_size: int) -> "PreTrainedTokenizerFast":
    """Words are numbers."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL_TOKENS, *map(str, range(vocabulary_size - len(SPECIAL_TOKENS)))]
    numbers = {word: number for number, word in enumerate(words)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(numbers, UNKNOWN)),
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=BEGIN,
        sep_token=END,
        mask_token=MASK,
    )
