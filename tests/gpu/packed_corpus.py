"""A corpus as the stage `shard` makes it, without Ray: text, its tokenizer, packed rows."""

from pathlib import Path

from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from tests.gpu.sizes import Sizes
from tests.gpu.texts import documents
from trainers.corpora.config import Tokenizer
from trainers.corpora.feeding import index
from trainers.corpora.tokens.pack import pack_documents, write_arrow
from trainers.corpora.tokens.tokenizer import encode, ends, train

CORPUS = "corpus/gpu-shard-00"
HELD_OUT = 8
"""Sequences for validation, which are trained on too."""


def corpus(folder: Path, sizes: Sizes) -> Artifact:
    """In a workspace at `folder`; the one that is there already, if there is one."""
    storage = Storage.at(str(folder))
    known = artifacts.find(storage, CORPUS)
    if known is not None:
        return known
    texts, length = documents(sizes.text_bytes), sizes.sequence_length
    settings = Tokenizer(vocabulary_size=sizes.vocabulary_size, lowercase=False)
    tokenizer = train(texts, settings, length)
    tokens = encode(tokenizer.backend_tokenizer, texts)
    pad, vocabulary = tokenizer.pad_token_id, len(tokenizer)
    table = pack_documents(tokens, *ends(tokenizer), length, pad, vocabulary)
    tables = {"train/00000.arrow": table, "validation/00000.arrow": table[:HELD_OUT]}
    shards = {name: each.num_rows for name, each in tables.items()}
    with artifacts.drafting(storage, CORPUS) as draft:
        with draft.folder() as written:
            for name, each in tables.items():
                write_arrow(each, written / name)
            index.write(index.Index(length, shards), written)
            tokenizer.save_pretrained(written / "tokenizer")
        return draft.publish(recipe="gpu", stage="shard", parents={}, inputs={}, metrics={})
