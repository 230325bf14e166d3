"""The stage `render`: rows of examples to token ids with what of them is learned, once for all
trials and seeds of a task.

    render    some rows of a split: their sequences, and the rows that give none, by reason
    (here)    the sequences of each split, in the order of the examples

Makes `train.arrow` and `validation.arrow` with the columns of the Task; the same for any number of
tasks. The test split is not rendered: its prompts are answered.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import UserError
from cluster.runs.pipeline import StageJob
from trainers.corpora.steps.parallel import each
from trainers.corpora.tokens.pack import read_arrow, write_arrow
from trainers.finetune import task

if TYPE_CHECKING:
    from trainers.tasks.learned_tokens import RenderedFineTuning

SPLITS = ("train", "validation")
CHARACTERS_TOGETHER, ROW_CHARACTERS = 8 << 20, 400
"""Of rows that are rendered by one task, and what a row counts beside its text."""


def run(job: StageJob) -> dict[str, Any]:
    settings, examples, draft = job.recipe.finetune, job.parents["examples"], job.draft
    settings.refuse_examples(examples)
    make: Callable[[], Any] = functools.partial(task, job.recipe, job.parents)
    tables = {split: read_arrow(examples.path / f"{split}.arrow") for split in SPLITS}
    items = {
        f"{split}-{start:012d}": (split, start, stop)
        for split, table in tables.items()
        for start, stop in _ranges(table["text"])
    }

    def render(name: str, item: tuple[str, int, int]) -> Any:
        split, start, stop = item
        rows = read_arrow(examples.path / f"{split}.arrow")[start:stop].to_pylist()
        table, counts = rendered(make(), rows)
        with draft.working(split) as folder:
            write_arrow(table, folder / f"{name}.arrow")
        return dataclasses.asdict(counts)

    totals = {split: Counts() for split in SPLITS}
    for name, outcome in each(job, "render", items, render, "parts rendered"):
        totals[items[name][0]].add(Counts(**outcome))
    for split, counts in totals.items():
        job.progress.line(f"{split}: {counts.told()}")
        refuse_empty(split, counts)
        _put_together(job, split, sorted(name for name in items if items[name][0] == split))
    return {split: dataclasses.asdict(counts) for split, counts in totals.items()}


@dataclasses.dataclass
class Counts:
    rows: int = 0
    """Of the examples."""
    sequences: int = 0
    tokens: int = 0
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)
    """Rows that give no sequence, by reason."""
    noted: dict[str, int] = dataclasses.field(default_factory=dict)
    """What of the others is not learned as it is, by kind."""

    def add(self, other: "Counts") -> None:
        self.rows += other.rows
        self.sequences += other.sequences
        self.tokens += other.tokens
        self.dropped = _summed(self.dropped, other.dropped)
        self.noted = _summed(self.noted, other.noted)

    def told(self) -> str:
        """The counts in words."""
        noted = f"; {_listed(self.noted)}" if self.noted else ""
        return (
            f"{self.rows:,} rows, dropped: {_listed(self.dropped) or 'none'}{noted}; "
            f"{self.sequences:,} sequences of {self.tokens:,} tokens"
        )


def _summed(some: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted((collections.Counter(some) + collections.Counter(others)).items()))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {count:,}" for what, count in counts.items())


def rendered(
    task: "RenderedFineTuning", rows: Sequence[Mapping[str, Any]]
) -> tuple[pa.Table, Counts]:
    """The sequences of rows, in their order, and what became of the rows."""
    from trainers.tasks.conversations.template import NotRendered

    sequences: list[Mapping[str, Sequence[Any]]] = []
    counts = Counts(len(rows))
    for row in rows:
        try:
            made = task.render(row)
        except NotRendered as error:
            counts.dropped = _summed(counts.dropped, {str(error): 1})
            continue
        sequences += made.sequences
        counts.noted = _summed(counts.noted, made.noted)
    columns = {
        name: pa.array([one[name] for one in sequences], kind)
        for name, kind in task.columns.items()
    }
    counts.sequences = len(sequences)
    counts.tokens = sum(len(one["input_ids"]) for one in sequences)
    return pa.table(columns), counts


def refuse_empty(split: str, counts: Counts) -> None:
    """Raises UserError where nothing is left of a split. Pure."""
    if not counts.sequences:
        raise UserError(
            f"finetune: none of the {counts.rows:,} rows of {split} can be learned: "
            f"{counts.told()}; mend the rows, set a larger finetune.max_length, or another "
            "finetune.overlong"
        )


def _ranges(texts: pa.ChunkedArray) -> Iterator[tuple[int, int]]:
    """Rows that are rendered together, of about CHARACTERS_TOGETHER."""
    sizes = pc.utf8_length(texts).to_numpy() + ROW_CHARACTERS
    groups = np.cumsum(sizes, dtype=np.int64) // CHARACTERS_TOGETHER
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    yield from zip(starts.tolist(), [*starts[1:].tolist(), len(groups)], strict=True)


def _put_together(job: StageJob, split: str, names: Sequence[str]) -> None:
    made = job.draft.worked(split)
    tables = (read_arrow(made / f"{name}.arrow") for name in names)
    with job.draft.folder() as folder:
        first = next(tables)
        path = str(folder / f"{split}.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, first.schema) as stream:
            stream.write_table(first)
            for table in tables:
                stream.write_table(table)
