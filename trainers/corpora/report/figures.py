"""The figures of a corpus: the stage's metrics, and what its page shows. Pure."""

from collections.abc import Mapping
from typing import Any

from trainers.corpora.cleaning.documents import Counts
from trainers.corpora.steps.shard_assignment import SPLITS
from trainers.corpora.steps.write_shards import Packed
from trainers.corpora.tokens import fertility


def corpus_figures(
    counts: Mapping[str, Counts],
    described: Mapping[str, Mapping[str, Any]],
    passes: Mapping[str, float],
    packed: Packed,
    sequence_length: int,
) -> dict[str, Any]:
    """Figures by source and by split. `described` has `characters` and `lengths` of the kept
    documents by source, `passes` how often an epoch reads each."""
    sources = {}
    for name, figures in described.items():
        found = packed["sources"][name]
        sources[name] = {
            **counts[name].report(),
            "characters": figures["characters"].total(),
            "lengths": dict(figures["lengths"]),
            "passes": passes[name],
            "train_tokens": found["train_tokens"],
            "tokens_per_character": found["tokens"] / max(1, found["characters"]),
            **fertility.shares(found),
        }
        sources[name]["tokens"] = round(
            sources[name]["characters"] * sources[name]["tokens_per_character"]
        )
    splits = packed["splits"]
    sequences = sum(of_split["sequences"] for of_split in splits.values())
    characters = sum(found["characters"] for found in packed["sources"].values())
    return {
        "sources": sources,
        "splits": {name: dict(splits[name]) for name in SPLITS},
        "packing_efficiency": sum(of_split["packed_tokens"] for of_split in splits.values())
        / (sequences * sequence_length),
        "characters_per_token": characters
        / max(1, sum(found["tokens"] for found in packed["sources"].values())),
    }
