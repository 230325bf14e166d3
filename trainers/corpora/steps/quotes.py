"""Documents that quote evaluation texts, found on the cluster for corpora and examples alike.

passages       one task: the passages of all evaluation texts, left for all others
leave_hits     in a task with documents: which of these passages each has
quoting        here: what many documents share is boilerplate; the documents with anything else
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from cluster.runs.pipeline import StageJob
from cluster.store.artifacts import Draft
from trainers.corpora.duplicates.contamination import Passages, boilerplate
from trainers.corpora.steps.document_file import DocumentFile, Rows
from trainers.corpora.steps.parallel import each

PASSAGES, HITS = "passages", "hits"
"""Folders of the stage's work."""


def find_passages(job: StageJob, texts: Callable[[Any], Iterable[str]], item: Any) -> None:
    """Of the evaluation texts that `texts(item)` reads, in the task; what is large is in the item,
    which goes by the object store."""
    draft = job.draft

    def find(_name: str, item: Any) -> None:
        found = Passages.of(texts(item))
        with draft.working(PASSAGES) as folder:
            for cjk, hashes in found.of_kind.items():
                np.save(folder / _file(cjk), hashes)

    for _ in each(job, "passages", {PASSAGES: item}, find, "sets of evaluation texts read"):
        pass


def leave_hits(draft: Draft, name: str, documents: DocumentFile, rows: Rows) -> bool:
    """Leaves the passages that these rows of a file have; whether there are any."""
    hits = _passages(draft).hits(documents.texts(rows), rows.tolist())
    if len(hits):
        with draft.working(HITS) as folder:
            np.save(folder / f"{name}.npy", hits)
    return len(hits) > 0


def quoting(draft: Draft, names: Iterable[str], documents: int) -> Iterator[tuple[str, Rows]]:
    """Of files with hits, of so many documents in all files: the rows that quote."""
    passages, folder = _passages(draft), draft.worked(HITS)
    documents_with = np.zeros(len(passages), np.int64)
    names = sorted(names)
    for name in names:
        documents_with += passages.documents_with(np.load(folder / f"{name}.npy"))
    is_boilerplate = boilerplate(documents_with, documents)
    for name in names:
        yield name, passages.quoting(np.load(folder / f"{name}.npy"), is_boilerplate)


def _passages(draft: Draft) -> Passages:
    folder = draft.worked(PASSAGES)
    return Passages({cjk: np.load(folder / _file(cjk), mmap_mode="r") for cjk in (True, False)})


def _file(cjk: bool) -> str:
    return "cjk.npy" if cjk else "other.npy"
