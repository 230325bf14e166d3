"""The step `clean`: every part of every source to clean documents, and their keys to places."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from cluster.runs.pipeline import StageJob
from trainers.corpora.cleaning.documents import Counts, cleaned
from trainers.corpora.config import Corpora
from trainers.corpora.reading import sources as reading
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.readers import read
from trainers.corpora.steps import document_file
from trainers.corpora.steps.parallel import each
from trainers.corpora.steps.shuffle import deal, place_of

DOCUMENTS, KEYS, LEFT = "documents", "keys", "left"
"""Folders of the stage's work: `documents/PART.arrow`; keys, dealt by themselves; `left/PART.npy`,
the rows of documents that are left as steps drop others."""
KEY = np.dtype([("key", np.uint64), ("part", np.int32), ("row", np.int64)])


@dataclasses.dataclass(frozen=True)
class SourcePart:
    """A part of a source, such as one file, among the parts of all sources."""

    number: int
    """Its place in the recipe's order."""
    source: str
    origin: reading.Part

    @property
    def name(self) -> str:
        """Names its files; sorts as its number does."""
        return f"{self.number:06d}"


def parts_of(job: StageJob, sources: Mapping[str, Source]) -> list[SourcePart]:
    """What is read of these sources, in the recipe's order. A run that goes on after a kill reads
    the same, even if a branch on the hub has moved."""
    record = f"{job.draft.work}/parts.json"
    if not job.storage.exists(record):
        found = [
            (name, dataclasses.asdict(origin))
            for name, source in sources.items()
            for origin in reading.parts(source, f"corpora.sources.{name}", tell=job.progress.line)
        ]
        job.storage.write(record, json.dumps(found, ensure_ascii=False).encode())
        _tell_commits(job, found)
    return [
        SourcePart(number, source, reading.Part(**origin))
        for number, (source, origin) in enumerate(json.loads(job.storage.read(record)))
    ]


def _tell_commits(job: StageJob, found: list[tuple[str, dict[str, Any]]]) -> None:
    for name, commit in dict.fromkeys((name, origin["commit"]) for name, origin in found):
        source = job.recipe.corpora.sources[name]
        if commit is not None and commit != source.revision:
            job.progress.line(
                f"{name}: {source.dataset} as of {commit}; set this as its `revision` to keep it"
            )


def clean(job: StageJob, parts: list[SourcePart]) -> dict[str, Counts]:
    """Writes the documents of every part; returns what was dropped, by source."""
    corpora: Corpora = job.recipe.corpora
    draft = job.draft

    def clean_part(name: str, part: SourcePart) -> Any:
        counts = Counts()
        kept = cleaned(
            read(corpora.sources[part.source].of_texts, part.origin), corpora.clean, counts
        )
        texts = (document.text for document in kept if document.text is not None)
        with draft.working(DOCUMENTS) as folder:
            keys = document_file.write(texts, folder / f"{name}.arrow")
        records = np.empty(len(keys), KEY)
        records["key"], records["part"], records["row"] = keys, part.number, np.arange(len(keys))
        with draft.working(KEYS) as folder:
            deal(folder, name, records, place_of(keys))
        return counts.document()

    found = {name: Counts() for name in corpora.sources}
    items = {part.name: part for part in parts}
    for name, counts in each(job, "clean", items, clean_part, "parts cleaned"):
        found[items[name].source] += Counts.of(counts)
    return found
