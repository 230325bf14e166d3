"""The stage `examples`: labelled documents, deduplicated before they are split.

Makes `train.arrow`, `validation.arrow`, `test.arrow` with `text` and `label` (its number), and
`labels.json`, the labels in the order of their numbers.
"""

import json
from typing import Any

import pyarrow as pa

from cluster.artifacts import REPORT
from cluster.errors import UserError
from cluster.pipeline import StageJob
from trainers.corpora.documents import Counts, labelled, split_of
from trainers.corpora.pack import write_arrow
from trainers.corpora.report.labelled import labelled_page

SPLITS = ("train", "validation", "test")


def run(job: StageJob) -> dict[str, Any]:
    corpora, allowed = job.recipe.corpora, job.recipe.finetune.labels
    counts = Counts()
    rows: dict[str, list[tuple[str, str]]] = {split: [] for split in SPLITS}
    for key, document in labelled(corpora, counts):
        assert document.text is not None
        assert document.label is not None
        if allowed is not None and document.label not in allowed:
            raise UserError(
                f"{document.where}: label {document.label!r} is not in finetune.labels "
                f"({', '.join(allowed)}); mend the file or the list"
            )
        rows[split_of(key, job.recipe.seed, corpora.split)].append((document.text, document.label))
    found = sorted({label for split in SPLITS for _, label in rows[split]})
    labels = list(allowed) if allowed is not None else found
    if len(found) < 2:
        raise UserError(
            "corpora.sources: classification needs two labels or more, found "
            f"{found or 'no documents'}"
        )
    empty = [split for split in SPLITS if not rows[split]]
    if empty:
        raise UserError(
            f"corpora.split: no labelled documents in {', '.join(empty)} of {counts.kept}; "
            "give more documents or larger shares"
        )
    with job.draft.folder() as folder:
        for split in SPLITS:
            texts, names = zip(*rows[split], strict=True)
            table = pa.table(
                {
                    "text": pa.array(texts, pa.large_string()),
                    "label": pa.array([labels.index(name) for name in names], pa.int32()),
                }
            )
            write_arrow(table, folder / f"{split}.arrow")
        (folder / "labels.json").write_text(json.dumps(labels, ensure_ascii=False), "utf-8")
    report = {
        **counts.report(),
        **{split: len(rows[split]) for split in SPLITS},
        "balance": {
            label: sum(name == label for split in SPLITS for _, name in rows[split])
            for label in labels
        },
    }
    with job.draft.folder() as folder:
        (folder / REPORT).write_text(labelled_page(report, job.draft.id), "utf-8")
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in counts.dropped.items())
    job.progress.line(
        f"{counts.read:,} labelled documents, dropped: {dropped or 'none'}; "
        + ", ".join(f"{split} {len(rows[split]):,}" for split in SPLITS)
    )
    return report


def held_out_texts(examples):
    from trainers.corpora.pack import read_arrow

    for split in ("validation", "test"):
        yield from read_arrow(examples.path / f"{split}.arrow")["text"].to_pylist()
