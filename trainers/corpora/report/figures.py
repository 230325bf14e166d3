"""The figures of a corpus: the stage's metrics, and what its page shows. Pure."""

from collections.abc import Mapping
from typing import Any

from trainers.corpora.cleaning.documents import Counts
from trainers.corpora.steps.shard_assignment import SPLITS
from trainers.corpora.steps.write_shards import PackingCounts
from trainers.corpora.tokens import fertility


def corpus_figures(
    counts: Mapping[str, Counts],
    described: Mapping[str, Mapping[str, Any]],
    passes: Mapping[str, float],
    packed: PackingCounts,
    sequence_length: int,
) -> dict[str, Any]:
    """Figures by source and by split. `described` has `characters` and `lengths` of the kept
    documents by source, `passes` how often an epoch reads each."""
    sources = {}
    for name, figures in described.items():
        of_source, characters = packed["sources"][name], figures["characters"].total()
        tokens_per_character = of_source["tokens"] / max(1, of_source["characters"])
        sources[name] = {
            **counts[name].report(),
            "characters": characters,
            "lengths": dict(figures["lengths"]),
            "passes": passes[name],
            "train_tokens": of_source["train_tokens"],
            "tokens_per_character": tokens_per_character,
            "tokens": round(characters * tokens_per_character),
            **fertility.shares(of_source),
        }
    splits, of_sources = packed["splits"], packed["sources"].values()
    sequences = sum(of_split["sequences"] for of_split in splits.values())
    packed_tokens = sum(of_split["packed_tokens"] for of_split in splits.values())
    tokens = sum(one["tokens"] for one in of_sources)
    return {
        "sources": sources,
        "splits": {name: dict(splits[name]) for name in SPLITS},
        "packing_efficiency": packed_tokens / (sequences * sequence_length),
        "characters_per_token": sum(one["characters"] for one in of_sources) / max(1, tokens),
    }
