"""The labels of first rows, before anything runs: which are there, and which a run would
refuse or miss. Rows are cleaned as a run cleans them."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping

from cluster.recipe.section import Conflict
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import Counts, cleaned
from trainers.corpora.cleaning.rules import too_short_or_long
from trainers.corpora.examples.label_values import mapped
from trainers.corpora.examples.task_rows import TaskRows
from trainers.corpora.reading.config import Source
from trainers.corpora.reading.formats import known_format
from trainers.corpora.reading.formats.sentences import key_for
from trainers.corpora.reading.path_checks import first_documents
from trainers.corpora.reading.readers import read
from trainers.corpora.reading.sources import Part, is_remote, located

LINES = 50
"""Of a text file that may have tags."""


@dataclasses.dataclass
class LabelSample:
    """What was seen of the labels of sources."""

    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    """Each with where one stands."""
    rows: int = 0
    is_whole: bool = True
    """Whether these are all rows."""


def sample_labels(sources: Iterable[Source], clean: Clean, task: TaskRows) -> LabelSample:
    """The labels of the first rows of each source that is on this disk, but for those that rules
    give."""
    seen = LabelSample()
    lenient = clean.model_copy(update={"max_unreadable": 1.0})  # which is of whole files
    for source in sources:
        if source.path is None or is_remote(source) or source.weak_labels is not None:
            seen.is_whole = False
            continue
        first, is_whole = first_documents(source, task)
        seen.is_whole = seen.is_whole and is_whole
        for document in cleaned(
            task.checked(first), lenient, Counts(), too_short_or_long, task.cleaned_document
        ):
            seen.rows += 1
            labels: Iterable[str] | None = task.labels_of(document.values)
            if document.label is not None:
                labels = mapped(document.label, source.label_map)
            for label in labels or ():
                seen.labels.setdefault(label, document.where)
    return seen


def faults(seen: LabelSample, task: TaskRows) -> Iterator[Conflict]:
    """The first reason for which a run refuses these labels, if there is one. Pure."""
    too_few = task.too_few_labels(seen.labels) if seen.is_whole else None
    if too_few is not None:
        yield Conflict("corpora.sources", too_few)
        return
    for label, where in seen.labels.items():
        refused = task.refused_label(label)
        if refused is not None:
            yield Conflict("finetune.labels", f"{where}: {refused}")
            return


def warnings(seen: LabelSample, task: TaskRows) -> Iterator[str]:
    """What a run would take, but hardly anybody means. Pure."""
    problem = task.too_few_labels(seen.labels) or absent_labels(task, seen.labels)
    if problem is not None and seen.rows:
        yield f"of {'' if seen.is_whole else 'the first '}{seen.rows:,} rows {problem}"


def key_for_tags(source: Source, task: TaskRows) -> str | None:
    """The key by which a text file on this disk is read as words with tags, if its lines look so
    and the task takes these; or None."""
    if not task.may_be_tagged or source.tagged or source.path is None or is_remote(source):
        return None
    files = located(source).files
    if source.format not in (None, "text") or known_format(files[0]) not in (None, "text"):
        return None
    of_lines = source.model_copy(update={"columns": {}, "format": "text"})
    read_lines = (one.text for one in read(of_lines, Part(files[0])) if one.text is not None)
    return key_for([*itertools.islice(read_lines, LINES)])


def absent_labels(task: TaskRows, labels: Mapping[str, object]) -> str | None:
    """What to tell of labels that the recipe names and no row has, or None. Pure."""
    absent = [repr(label) for label in task.named_labels if label not in labels]
    named = "which finetune.labels or finetune.label_map names"
    return f"none has the label {', '.join(absent)}, {named}" if absent else None
