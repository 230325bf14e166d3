"""The page of the labelled documents. Pure."""

from collections.abc import Mapping
from typing import Any

from trainers.corpora.report import plots
from trainers.corpora.report.counts import BARS, bars_of, largest, outcome
from trainers.corpora.report.page import ROWS, Plot, Section, Table, render
from trainers.corpora.report.writing import number, one_line, share


def labelled_page(counts: Mapping[str, Any], artifact_id: str) -> str:
    """The page of what the stage `examples` counted."""
    splits = {split: counts[split] for split in ("train", "validation", "test")}
    balance: Mapping[str, int] = counts["balance"]
    tiles = {
        "documents read": number(counts["read"]),
        "documents kept": f"{number(counts['kept'])} ({share(counts['kept'], counts['read'])})",
        "labels": number(len(balance)),
        **{f"{split} documents": number(documents) for split, documents in splits.items()},
    }
    labels = largest(balance, BARS, "labels")
    shares = [
        [one_line(label), number(n), share(n, counts["kept"])] for label, n in balance.items()
    ]
    head = ("Label", "Documents", "Share")
    sections = [
        Section("Kept and dropped", plots=[Plot("", outcome("labelled", counts))]),
        Section(
            "Labels",
            plots=[Plot("", plots.bars("labels", bars_of(labels, counts["kept"], "kept")))],
            tables=[Table("Documents by label", head, shares, folded=len(shares) > ROWS)],
        ),
    ]
    return render("Labelled documents", artifact_id, tiles, sections)
