"""A look at whether splits would be empty, before anything runs: at sources that can all be read in
a moment, and at what a run refuses for sure."""

import collections
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np

from cluster.recipe.section import Conflict
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import Counts, cleaned, text_key
from trainers.corpora.cleaning.rules import too_short_or_long
from trainers.corpora.examples.label_values import mapped
from trainers.corpora.examples.task_rows import TaskRows
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.path_checks import ROWS, rows_worth
from trainers.corpora.reading.readers import Document, read
from trainers.corpora.reading.sources import Part, is_remote, located
from trainers.corpora.steps.shard_assignment import SPLITS, is_held_out


def of_examples(
    sources: Collection[Source], clean: Clean, shares: Mapping[str, float], task: TaskRows
) -> Iterator[Conflict]:
    """A conflict for each of `shares` that is under half a document of every label: a split takes
    a document only where that brings it nearer to its share. A run may drop some more."""
    drawn = [source for source in sources if source.placement == "shares"]
    documents = _all_documents(drawn, task.optional_roles)
    if documents is None or any(source.weak_labels for source in drawn):
        return
    texts: dict[str | None, set[int]] = collections.defaultdict(set)
    for source, of_source in zip(drawn, documents, strict=True):
        checked = task.checked(of_source)
        for document in cleaned(checked, clean, Counts(), too_short_or_long, task.cleaned_document):
            labels: Sequence[str] | None = task.labels_of(document.values)
            if document.label is not None:
                labels = mapped(document.label, source.label_map)
            if labels is not None:
                for label in labels or (None,):
                    texts[label].add(text_key(document.text or ""))
    most = max(map(len, texts.values()), default=0)
    placed = {source.placement for source in sources}
    for split, share in shares.items():
        if split not in placed and share * most < 0.5:
            counted = f"{'there are' if {*texts} <= {None} else 'no label has more than'} {most:,}"
            yield Conflict(
                f"corpora.split.{split}",
                f"no {task.noun} for {split}: {counted}, of which {share:g} is under half of one; "
                f"give more, or a larger share, or a source with `split: {split}`",
            )


def of_pretraining(
    sources: Collection[tuple[Source, float]], clean: Clean, seed: int
) -> Iterator[Conflict]:
    """A conflict if no text draws one of the splits. `sources` come with the shares that they hold
    out. A run may drop some more texts, such as those that evaluation holds out."""
    documents = _all_documents([source.of_texts for source, _ in sources])
    if documents is None:
        return
    drawn = [np.empty(0, bool)]
    for (_, share), of_source in zip(sources, documents, strict=True):
        kept = cleaned(of_source, clean, Counts(), too_short_or_long)
        keys = np.array([text_key(document.text or "") for document in kept], np.uint64)
        drawn.append(is_held_out(keys, seed, share))
    held_out = np.concatenate(drawn)
    for split, in_split in zip(SPLITS, (~held_out, held_out), strict=True):
        if not in_split.any():
            hint = ", or raise corpora.validation" if split == "validation" else ""
            yield Conflict(
                "corpora.sources",
                f"no documents left for {split} of {len(held_out):,}; give more{hint}",
            )


def _all_documents(
    sources: Iterable[Source], optional: Collection[str] = ()
) -> Sequence[list[Document]] | None:
    """Those of each source; None if they are elsewhere, or together more than a look takes."""
    found: list[list[Document]] = []
    left = ROWS
    for source in sources:
        if source.path is None or is_remote(source):
            return None
        found.append([])
        parts = (read(source, Part(file), optional) for file in located(source).files)
        for document in itertools.chain.from_iterable(parts):
            found[-1].append(document)
            left -= rows_worth(document)
            if left < 0:
                return None
    return found
