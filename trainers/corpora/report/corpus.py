"""The page of a corpus: what was read, dropped and kept, and what pretraining reads of it. Pure.

Of many sources or reasons the largest are plotted and the rest summed up; the tables have all.
"""

from collections.abc import Mapping
from typing import Any

from trainers.corpora.cleaning.documents import EXACT, NEAR
from trainers.corpora.report import plots
from trainers.corpora.report.counts import (
    BARS,
    Figures,
    bar_of,
    bars_of,
    by_count,
    largest_sources,
    outcome,
    summed,
)
from trainers.corpora.report.formatting import bit_length, number, one_line, share, visible
from trainers.corpora.report.page import ABOUT_SAMPLES, ROWS, Plot, Samples, Section, Table, render
from trainers.corpora.report.plots import Bar

KEPT = "kept"
PANELS = 7
"""Sources with a plot of their own; of more, the largest, and the rest as one."""
SAMPLES = 24
"""Texts shown of one reason."""


def corpus_page(report: Mapping[str, Any], artifact_id: str) -> str:
    """The page of what the stage `shard` counted: the content of its `report.json`."""
    sources: Mapping[str, Figures] = report["sources"]
    total = summed(sources.values())
    splits, near = report["splits"], report.get("near_duplicates")
    tiles = {
        "documents read": number(total["read"]),
        "documents kept": f"{number(total['kept'])} ({share(total['kept'], total['read'])})",
        "training tokens": number(splits["train"]["tokens"]),
        "training sequences": number(splits["train"]["sequences"]),
        "validation tokens": number(splits["validation"]["tokens"]),
        "packing efficiency": f"{report['packing_efficiency']:.1%}",
        "characters a token": f"{report['characters_per_token']:.2f}",
    }
    sections = [
        _kept_and_dropped(sources),
        _lengths(sources),
        _duplicates(sources, near),
        _tokens(sources),
        _figures(sources, splits),
        _samples(sources),
    ]
    return render("Corpus", artifact_id, tiles, sections)


def _kept_and_dropped(sources: Mapping[str, Figures]) -> Section:
    whole = {"All sources": summed(sources.values())} if len(sources) > 1 else {}
    shown: dict[str, Figures] = {**whole, **largest_sources(sources, "read", PANELS)}
    return Section(
        "Kept and dropped",
        "Documents of each source, and why those that are missing were dropped.",
        {"kept": "kept", "dropped": "dropped"},
        [
            Plot(
                f"{one_line(name)}: {number(figures['read'])} read",
                outcome(f"drops {name}", figures),
            )
            for name, figures in shown.items()
        ],
    )


def _lengths(sources: Mapping[str, Figures]) -> Section:
    shown = {
        name: figures
        for name, figures in largest_sources(sources, "kept", PANELS).items()
        if figures["kept"]
    }
    lengths = {
        name: {int(k): documents for k, documents in figures["lengths"].items() if documents}
        for name, figures in shown.items()
    }
    bins = [k for of_source in lengths.values() for k in of_source]
    return Section(
        "Lengths",
        "Kept documents by characters, on a scale of powers of two; 1k is 1,024.",
        plots=[
            Plot(
                f"{one_line(name)}: {figures['characters'] / figures['kept']:,.0f} on average",
                plots.histogram(f"lengths {name}", lengths[name], min(bins), max(bins)),
            )
            for name, figures in shown.items()
        ],
    )


def _duplicates(sources: Mapping[str, Figures], near: Mapping[str, Any] | None) -> Section:
    dropped = []
    for name, figures in largest_sources(sources, "read", BARS).items():
        counts, read = figures["dropped"], figures["read"]
        dropped.append(bar_of(name, counts.get(EXACT, 0), read, "dropped"))
        if near is not None:
            dropped.append(bar_of("", counts.get(NEAR, 0), read, "near"))
    made = [Plot("Dropped, and share of what was read", plots.bars("duplicates", dropped))]
    if near is None:
        about = "Texts that are equal after cleaning. Near duplicates were not looked for."
        return Section("Duplicates", about, {"dropped": "exact duplicates"}, made)
    sizes = sorted((int(k), clusters) for k, clusters in near["sizes"].items())
    if sizes:
        by_size = {bit_length(k): clusters for k, clusters in sizes}
        bars = bars_of(by_size, near["clusters"], "near")
        made.append(Plot("Clusters by number of documents", plots.bars("clusters", bars)))
    return Section(
        "Duplicates",
        "Texts that are equal after cleaning, and those that are alike: "
        f"{number(near['documents'])} near duplicates, in {number(near['clusters'])} clusters.",
        {"dropped": "exact duplicates", "near": "near duplicates"},
        made,
    )


def _tokens(sources: Mapping[str, Figures]) -> Section:
    shown = largest_sources(sources, "tokens", BARS)
    total = summed(sources.values())
    tokens = []
    for name, figures in shown.items():
        tokens.append(bar_of(name, figures["tokens"], total["tokens"], "before"))
        tokens.append(bar_of("", figures["train_tokens"], total["train_tokens"], "kept"))
    rates = [
        Bar(one_line(name), rate, f"{rate:.3f}", "kept")
        for name, figures in shown.items()
        if (rate := _rate(figures)) is not None
    ]
    made = [Plot("Tokens, and share of all", plots.bars("tokens", tokens))]
    if rates:
        made.append(Plot("Tokens a character", plots.bars("tokens a character", rates)))
    return Section(
        "Tokens by source",
        "What a source holds, and what an epoch of pretraining reads of it: without validation, as "
        "often as the mixture repeats it. More tokens a character than elsewhere say that the "
        "tokenizer knows a source less well.",
        {"before": "in the kept documents", "kept": "an epoch trains on"},
        made,
    )


def _figures(sources: Mapping[str, Figures], splits: Mapping[str, Figures]) -> Section:
    named = {**sources, "All sources": summed(sources.values())} if len(sources) > 1 else sources
    head = ("Source", "Read", "Dropped", "Kept", "Characters", "Tokens", "Tokens an epoch")
    rows = [
        [
            one_line(name),
            *map(number, (figures["read"], sum(figures["dropped"].values()), figures["kept"])),
            *map(number, (figures["characters"], figures["tokens"], figures["train_tokens"])),
            "–" if (rate := _rate(figures)) is None else f"{rate:.3f}",
            f"{figures['unknown_tokens']:.3%}" if "unknown_tokens" in figures else "–",
            ", ".join(f"{kind}\u00a0{number(n)}" for kind, n in figures["masked"].items()) or "–",
        ]
        for name, figures in named.items()
    ]
    parts = ("documents", "tokens", "sequences", "shards")
    dropped = [
        [one_line(name), one_line(reason), number(documents), share(documents, figures["read"])]
        for name, figures in sources.items()
        for reason, documents in figures["dropped"].items()
    ]
    return Section(
        "Figures",
        tables=[
            Table(
                "Splits",
                ("Split", "Documents", "Tokens", "Sequences", "Shards"),
                [
                    [split, *(number(counts[part]) for part in parts)]
                    for split, counts in splits.items()
                ],
            ),
            Table(
                "Sources",
                (*head, "Tokens a character", "Unknown tokens", "Masked"),
                rows,
                folded=len(sources) > ROWS,
            ),
            Table(
                "Dropped documents by source and reason",
                ("Source", "Reason", "Documents", "Share of read"),
                dropped,
                names=2,
                folded=True,
            ),
        ],
    )


def _samples(sources: Mapping[str, Figures]) -> Section:
    total = summed(sources.values())
    documents = {KEPT: total["kept"], **by_count(total["dropped"])}
    given = {reason for figures in sources.values() for reason in figures["samples"]}
    return Section(
        "Samples",
        ABOUT_SAMPLES,
        samples=[
            Samples(one_line(reason), count, _texts(sources, reason))
            for reason, count in documents.items()
            if reason in given
        ],
    )


def _texts(sources: Mapping[str, Figures], reason: str) -> list[tuple[str, str]]:
    """Samples of a reason: the first of every source before the second of any."""
    ranked = [
        (rank, place, one_line(name), visible(text))
        for place, (name, figures) in enumerate(sources.items())
        for rank, text in enumerate(figures["samples"].get(reason, ()))
    ]
    chosen = sorted(ranked)[:SAMPLES]
    return [(name, text) for _, _, name, text in sorted(chosen, key=lambda one: (one[1], one[0]))]


def _rate(figures: Figures) -> float | None:
    """Tokens a character."""
    return figures["tokens"] / figures["characters"] if figures["characters"] else None
