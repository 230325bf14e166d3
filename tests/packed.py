"""A published corpus of given sequences, as the stage `shard` would have left it."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from cluster.store.storage import Storage
from trainers.corpora.feeding import index
from trainers.corpora.tokens.pack import write_arrow


def corpus_of(storage: Storage, splits: Mapping[str, Sequence[pa.Table]]) -> Artifact:
    """The tables of a split are its shards; all have sequences of one length."""
    shards = {
        f"{split}/{number:05d}.arrow": table
        for split, tables in splits.items()
        for number, table in enumerate(tables)
    }
    length = next(iter(shards.values())).schema.field("input_ids").type.list_size
    rows = {name: table.num_rows for name, table in shards.items()}
    with artifacts.drafting(storage, "corpus/demo-shard-00") as draft:
        with draft.folder() as folder:
            for name, table in shards.items():
                write_arrow(table, folder / name)
            index.write(index.Index(length, rows), folder)
        return draft.publish(recipe="demo", stage="shard", parents={}, inputs={}, metrics={})
