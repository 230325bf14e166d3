"""What a corpus holds, so that no shard must be opened to know it: `index.json`.

    {"sequence_length": 512, "shards": {"train/00000.arrow": 24870, "validation/00000.arrow": 251}}

Sizes and hashes of the shards stand in the manifest.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from cluster.store.artifacts import Artifact

NAME = "index.json"


@dataclasses.dataclass(frozen=True)
class Index:
    sequence_length: int
    shards: Mapping[str, int]
    """Sequences in each file, by its path in the corpus."""

    def split(self, name: str) -> dict[str, int]:
        """The shards of one split, in order."""
        return {
            path: rows for path, rows in sorted(self.shards.items()) if path.startswith(f"{name}/")
        }


def write(index: Index, folder: Path) -> None:
    document = {
        "sequence_length": index.sequence_length,
        "shards": dict(sorted(index.shards.items())),
    }
    (folder / NAME).write_text(json.dumps(document, indent=1), "utf-8")


def read(corpus: Artifact) -> Index:
    return Index(**json.loads(corpus.storage.read(f"{corpus.id}/{NAME}")))
