"""The page of a corpus: what was read, dropped and kept, and what pretraining reads of it. Pure.

Of many sources or reasons the largest are plotted; the tables have all.
"""

from collections.abc import Mapping
from typing import Any

from trainers.corpora.report.counts import BARS, Figures, bar, bars, by_count, outcome, summed
from trainers.corpora.report.page import (
    ABOUT_SAMPLES,
    ROWS,
    Plot,
    Samples,
    Section,
    Table,
    render,
    share,
)

KEPT = "kept"
PANELS = 7
"""Sources with a plot of their own at most, the largest."""
SAMPLES = 24
"""Texts shown of one reason."""


def corpus_page(report: Mapping[str, Any], artifact_id: str) -> str:
    """The page of what the stage `shard` counted: the content of its `report.json`."""
    sources: Mapping[str, Figures] = report["sources"]
    total, splits = summed(sources.values()), report["splits"]
    tiles = {
        "documents read": total["read"],
        "documents kept": f"{total['kept']:,} ({share(total['kept'], total['read'])})",
        "training tokens": splits["train"]["tokens"],
        "training sequences": splits["train"]["sequences"],
        "validation tokens": splits["validation"]["tokens"],
        "packing efficiency": f"{report['packing_efficiency']:.1%}",
        "characters a token": f"{report['characters_per_token']:.2f}",
    }
    sections = [
        _kept_and_dropped(sources, total),
        _lengths(sources),
        _near_duplicates(report.get("near_duplicates")),
        _tokens(sources, total),
        _figures(sources, splits, total),
        _samples(sources, total),
    ]
    return render("Corpus", artifact_id, tiles, sections)


def _largest(sources: Mapping[str, Figures], by: str, most: int) -> dict[str, Figures]:
    """The largest sources, in the order of the recipe."""
    chosen = sorted(sources, key=lambda name: -sources[name][by])[:most]
    return {name: figures for name, figures in sources.items() if name in chosen}


def _kept_and_dropped(sources: Mapping[str, Figures], total: Figures) -> Section:
    shown = {"All sources": total} if len(sources) > 1 else {}
    shown |= _largest(sources, "read", PANELS)
    plots = [Plot(f"{name}: {of['read']:,} read", outcome(of)) for name, of in shown.items()]
    about = "Documents of each source, and why those that are missing were dropped."
    return Section("Kept and dropped", about, {"kept": "kept", "dropped": "dropped"}, plots)


def _lengths(sources: Mapping[str, Figures]) -> Section:
    plots = []
    for name, figures in _largest(sources, "kept", PANELS).items():
        if kept := figures["kept"]:
            counts = _by_size(figures["lengths"])
            average = f"{name}: {figures['characters'] / kept:,.0f} on average"
            plots.append(Plot(average, bars(counts, kept, "kept")))
    return Section("Lengths", "Kept documents by their characters.", plots=plots)


def _by_size(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by the bits of a size, by the sizes of so many bits."""
    by_size = {}
    for bits in sorted(counts, key=int):
        low, high = 2 ** int(bits) // 2, 2 ** int(bits) - 1
        by_size[f"{low:,}" if low == high else f"{low:,} to {high:,}"] = counts[bits]
    return by_size


def _near_duplicates(near: Mapping[str, Any] | None) -> Section:
    if near is None:
        return Section("Near duplicates", "They were not looked for.")
    sizes = _by_size(near["sizes"])
    about = f"{near['documents']:,} near duplicates, in {near['clusters']:,} clusters."
    plots = [Plot("Clusters by number of documents", bars(sizes, near["clusters"], "near"))]
    return Section("Near duplicates", about, plots=plots if sizes else [])


def _tokens(sources: Mapping[str, Figures], total: Figures) -> Section:
    shown = []
    for name, figures in _largest(sources, "tokens", BARS).items():
        shown.append(bar(name, figures["tokens"], total["tokens"], "before"))
        shown.append(bar("", figures["train_tokens"], total["train_tokens"], "kept"))
    return Section(
        "Tokens by source",
        "What a source holds, and what an epoch of pretraining reads of it: without validation, as "
        "often as the mixture repeats it. More tokens a character than elsewhere say that the "
        "tokenizer knows a source less well.",
        {"before": "in the kept documents", "kept": "an epoch trains on"},
        [Plot("Tokens, and share of all", shown)],
    )


def _figures(
    sources: Mapping[str, Figures], splits: Mapping[str, Figures], total: Figures
) -> Section:
    named = {**sources, "All sources": total} if len(sources) > 1 else sources
    rows = [
        [
            name,
            figures["read"],
            sum(figures["dropped"].values()),
            *(figures[key] for key in ("kept", "characters", "tokens", "train_tokens")),
            f"{figures['tokens'] / figures['characters']:.3f}" if figures["characters"] else "–",
            f"{figures['unknown_tokens']:.3%}" if "unknown_tokens" in figures else "–",
            ", ".join(f"{kind}\u00a0{n:,}" for kind, n in figures["masked"].items()) or "–",
        ]
        for name, figures in named.items()
    ]
    head = ["Source", "Read", "Dropped", "Kept", "Characters", "Tokens", "Tokens an epoch"]
    head += ["Tokens a character", "Unknown tokens", "Masked"]
    parts = ("documents", "tokens", "sequences", "shards")
    of_splits = [[split, *(counts[part] for part in parts)] for split, counts in splits.items()]
    dropped = [
        [name, reason, documents, share(documents, figures["read"])]
        for name, figures in sources.items()
        for reason, documents in figures["dropped"].items()
    ]
    by_reason = ("Source", "Reason", "Documents", "Share of read")
    tables = [
        Table("Splits", ("Split", *map(str.capitalize, parts)), of_splits),
        Table("Sources", head, rows, folded=len(sources) > ROWS),
        Table("Dropped documents by source and reason", by_reason, dropped, names=2, folded=True),
    ]
    return Section("Figures", tables=tables)


def _samples(sources: Mapping[str, Figures], total: Figures) -> Section:
    samples = []
    for reason, count in {KEPT: total["kept"], **by_count(total["dropped"])}.items():
        ranked = [  # the first of every source before the second of any
            (rank, name, text)
            for name, figures in sources.items()
            for rank, text in enumerate(figures["samples"].get(reason, ()))
        ]
        if ranked:
            texts = [(name, text) for _, name, text in sorted(ranked)[:SAMPLES]]
            samples.append(Samples(reason, count, sorted(texts)))
    return Section("Samples", ABOUT_SAMPLES, samples=samples)
