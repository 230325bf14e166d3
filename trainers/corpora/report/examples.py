"""The page of the labelled documents. Pure."""

from collections.abc import Mapping
from typing import Any

from trainers.corpora.report import plots
from trainers.corpora.report.counts import BARS, bars_of, by_count, largest, outcome
from trainers.corpora.report.formatting import number, one_line, share, visible
from trainers.corpora.report.page import ABOUT_SAMPLES, ROWS, Plot, Samples, Section, Table, render


def labelled_page(counts: Mapping[str, Any], artifact_id: str) -> str:
    """The page of what the stage `examples` counted."""
    splits = {split: counts[split] for split in ("train", "validation", "test")}
    by_label: Mapping[str, Mapping[str, int]] = counts["labels"]
    balance = {label: sum(of.values()) for label, of in by_label.items()}
    tiles = {
        "documents read": number(counts["read"]),
        "documents kept": f"{number(counts['kept'])} ({share(counts['kept'], counts['read'])})",
        "labels": number(len(balance)),
        **{f"{split} documents": number(documents) for split, documents in splits.items()},
    }
    labels = largest(balance, BARS, "labels")
    shares = [
        [
            one_line(label),
            *(number(by_label[label][split]) for split in splits),
            number(n),
            share(n, counts["kept"]),
        ]
        for label, n in balance.items()
    ]
    head = ("Label", *splits, "Documents", "Share")
    sections = [Section("Kept and dropped", plots=[Plot("", outcome("labelled", counts))])]
    if labels:
        of_labels = plots.bars("labels", bars_of(labels, counts["kept"], "kept"))
        table = Table("Documents by label", head, shares, folded=len(shares) > ROWS)
        sections.append(Section("Labels", plots=[Plot("", of_labels)], tables=[table]))
    weak_labels: Mapping[str, Any] = counts.get("weak_labels", {})
    if weak_labels:
        about = "Shares of the documents; accuracy where the same texts have labels of their own."
        tables = [_functions(source, of) for source, of in weak_labels.items()]
        sections.append(Section("Weak labels", about, tables=tables))
    shown: Mapping[str, list[str]] = counts["samples"]
    samples = [
        Samples(
            one_line(reason), documents, [("labelled", visible(text)) for text in shown[reason]]
        )
        for reason, documents in by_count(counts["dropped"]).items()
    ]
    sections.append(Section("Samples", ABOUT_SAMPLES, samples=samples))
    return render("Labelled documents", artifact_id, tiles, sections)


def _functions(source: str, figures: Mapping[str, Any]) -> Table:
    """What the labelling functions of a source did, and all together."""
    columns = ("coverage", "overlaps", "conflicts", "accuracy")
    rows = [
        [one_line(name), *(f"{of[column]:.1%}" if column in of else "–" for column in columns)]
        for name, of in [*figures["functions"].items(), ("together", figures)]
    ]
    return Table(one_line(source), ("Function", *(name.capitalize() for name in columns)), rows)
