"""The page of the rows that models are fine-tuned on. Pure."""

from collections.abc import Mapping
from typing import Any

from trainers.corpora.report.counts import BARS, bars, by_count, outcome
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


def labelled_page(counts: Mapping[str, Any], artifact_id: str) -> str:
    """The page of what the stage `examples` counted."""
    splits = {split: counts[split] for split in ("train", "validation", "test")}
    kept, read = counts["kept"], counts["read"]
    by_label: Mapping[str, Mapping[str, int]] = counts["labels"]
    documents = {label: sum(of.values()) for label, of in by_label.items()}
    tiles = {
        "documents read": read,
        "documents kept": f"{kept:,} ({share(kept, read)})",
        **({"labels": len(documents)} if documents else {}),
        **{f"{split} documents": of_split for split, of_split in splits.items()},
    }
    rows: list[list[str | int]] = [
        [label, *(by_label[label][split] for split in splits), n, share(n, kept)]
        for label, n in documents.items()
    ]
    head = ("Label", *splits, "Documents", "Share")
    sections = [Section("Kept and dropped", plots=[Plot("", outcome(counts))])]
    if documents:
        plot = Plot("", bars(by_count(documents, BARS), kept, "kept"))
        table = Table("Documents by label", head, rows, folded=len(rows) > ROWS)
        sections.append(Section("Labels", plots=[plot], tables=[table]))
    noted: Mapping[str, int] = counts.get("noted", {})
    if noted:
        about = "What the documents have that the task takes, and that one may want to look at."
        table = Table("", ("What", "Times"), [[what, times] for what, times in noted.items()])
        sections.append(Section("Notes", about, tables=[table]))
    weak_labels: Mapping[str, Any] = counts.get("weak_labels", {})
    if weak_labels:
        about = "Shares of the documents; accuracy where the same texts have labels of their own."
        tables = [_functions(source, of) for source, of in weak_labels.items()]
        sections.append(Section("Weak labels", about, tables=tables))
    samples = [
        Samples(reason, dropped, [("examples", text) for text in counts["samples"][reason]])
        for reason, dropped in by_count(counts["dropped"]).items()
    ]
    sections.append(Section("Samples", ABOUT_SAMPLES, samples=samples))
    return render("Examples", artifact_id, tiles, sections)


def _functions(source: str, figures: Mapping[str, Any]) -> Table:
    """What the labelling functions of a source did, and all together."""
    columns = ("coverage", "overlaps", "conflicts", "accuracy")
    rows = [
        [name, *(f"{of[column]:.1%}" if column in of else "–" for column in columns)]
        for name, of in [*figures["functions"].items(), ("together", figures)]
    ]
    return Table(source, ("Function", *map(str.capitalize, columns)), rows)
