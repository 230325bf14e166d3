"""What `raymill check` tells of the rows of each source: which columns make them, and what would
become of the first ones in a run."""

from collections.abc import Iterator, Mapping

from trainers.corpora.cleaning.config import Clean
from trainers.corpora.cleaning.documents import Counts, cleaned
from trainers.corpora.cleaning.rules import too_short_or_long
from trainers.corpora.examples.task_rows import TaskRows
from trainers.corpora.reading.config import LABEL, Source
from trainers.corpora.reading.path_checks import first_documents
from trainers.corpora.reading.sources import is_remote


def described(sources: Mapping[str, Source], clean: Clean, task: TaskRows) -> Iterator[str]:
    """A line for each source of examples, whose columns are named."""
    for name, source in sources.items():
        yield f"{name}: {_columns(source)}; {_fates(source, clean, task)}"


def _columns(source: Source) -> str:
    """By what they are for; of those with another name also that."""
    named = {role: column for role, column in source.columns.items() if column is not None}
    told = [
        role if role == column else f"{role} (column {column!r})" for role, column in named.items()
    ]
    if source.label is not None:
        told.append(f"{LABEL} {source.label!r}")
    if source.weak_labels is not None:
        told.append(f"{LABEL} by rules")
    return ", ".join(told)


def _fates(source: Source, clean: Clean, task: TaskRows) -> str:
    if source.path is None or is_remote(source):
        return "not on this disk, so not looked at"
    documents, is_whole = first_documents(source, task)
    counts = Counts()
    lenient = clean.model_copy(update={"max_unreadable": 1.0})  # which is of whole files
    for _ in cleaned(
        task.checked(documents), lenient, counts, too_short_or_long, task.cleaned_document
    ):
        pass
    dropped = ", ".join(f"{why} {count:,}" for why, count in sorted((+counts.dropped).items()))
    of_rows = f"of {'' if is_whole else 'the first '}{counts.read:,} rows"
    return f"{of_rows} dropped: {dropped or 'none'}"
