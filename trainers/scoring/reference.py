"""The stage `reference`: how probable the base holds what a model will be trained on, asked once
for all trials, seeds and epochs, by the primitive that scores (workers.py).

Makes `train.arrow` and `validation.arrow`, where a training reads them, with `reference`: of each
row of the stage `render` in its order the log-probabilities of its answers, in nats; and
`test.arrow` with these and the `id` of each row of the examples. They follow from the base, the
chat template and the rows, and the precision of the training.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cluster.lazy_import import lazy_import
from cluster.recipe.section import Recipe
from cluster.runs.pipeline import StageJob
from cluster.runs.progress import Progress
from cluster.store.artifacts import Artifact, Draft
from trainers.corpora.cleaning.config import of_examples
from trainers.corpora.tokens.pack import read_arrow, write_arrow
from trainers.finetune import task
from trainers.scoring.answers import Forwards, Row
from trainers.scoring.evaluation.score_rows import outcomes_of
from trainers.scoring.model import Model
from trainers.scoring.workers import Outcome, Room, WorkPart
from trainers.tasks.spec import REFERENCE, TaskSection

if TYPE_CHECKING:
    import torch

    from trainers.tasks.predictor import Predictor

PART_ROWS = 256
"""What is shown as done at once: seconds to minutes of a worker."""
TEST = "test"


def run(job: StageJob) -> dict[str, Any]:
    settings: TaskSection = job.recipe.finetune
    examples, rendered = job.parents["examples"], job.parents["render"]
    work = AskSplits(examples, rendered)
    sizes = {split: work.rows(split).num_rows for split in settings.asked_of_base}
    parts = dict(enumerate(_parts(sizes)))
    base = Base(job.recipe, job.parents)
    room = Room.as_in_training(settings, job.resources)
    outcomes = outcomes_of(base, work, parts, room, job.progress, job.draft, REFERENCE)
    with job.draft.folder() as folder:
        for split in sizes:
            of_split = [
                outcomes[number] for number, part in parts.items() if part["split"] == split
            ]
            values = [value for outcome in of_split for value in outcome[REFERENCE]]
            columns = {REFERENCE: pa.array(values, pa.list_(pa.float32()))}
            if split == TEST:
                columns["id"] = pa.array([id_ for each in of_split for id_ in each["ids"]])
            write_arrow(pa.table(columns), folder / f"{split}.arrow")
    return {"rows": sizes}


def _parts(sizes: Mapping[str, int]) -> Iterator[WorkPart]:
    for split, size in sizes.items():
        for first in range(0, size, PART_ROWS):
            yield {"split": split, "first": first, "stop": min(size, first + PART_ROWS)}


@dataclasses.dataclass(frozen=True)
class Base:
    """What a fine-tuning starts from, asked as the model is that it becomes. Picklable."""

    recipe: Recipe
    parents: Mapping[str, Artifact]

    def load(self, device: "torch.device") -> "Predictor":
        """Imports torch. It answers in what the training computes in."""
        import torch

        from trainers.engine.zero import resolve_precision

        settings: TaskSection = self.recipe.finetune
        learned = task(self.recipe, self.parents)
        dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        dtype = dtypes[resolve_precision(settings, device)]
        clean = of_examples(self.recipe.corpora.clean).model_dump(mode="json")
        card = {**settings.card(self.parents["examples"], {}), "clean": clean}
        model: Any = learned.model()
        predictor: Predictor = lazy_import(settings.predictor)(
            card, learned.tokenizer(), model.to(device, dtype).eval()
        )
        return predictor


@dataclasses.dataclass(frozen=True)
class AskSplits:
    """Asks the base about rows of the splits: of those that are trained on, as the stage `render`
    made them. Picklable."""

    examples: Artifact
    rendered: Artifact

    def __call__(
        self,
        predictor: Any,
        number: int,
        part: WorkPart,
        progress: Progress,
        forwards: Forwards,
    ) -> Outcome:
        split = part["split"]
        some = self.rows(split)[part["first"] : part["stop"]].to_pylist()
        outcome = _asked(predictor, some, split != TEST, number, progress, forwards)
        return {**outcome, "ids": [row["id"] for row in some] if split == TEST else []}

    def rows(self, split: str) -> pa.Table:
        source = self.examples if split == TEST else self.rendered
        return read_arrow(source.path / f"{split}.arrow")


def asked_rows(
    base: Model, rows: Sequence[Row], room: Room, progress: Progress, draft: Draft
) -> Sequence[Row]:
    """Rows like those of examples, with what the base says of them; null of those that it cannot be
    asked."""
    parts = {
        number: {"rows": rows[first : first + PART_ROWS]}
        for number, first in enumerate(range(0, len(rows), PART_ROWS))
    }
    outcomes = outcomes_of(base, ask_part, parts, room, progress, draft, REFERENCE)
    values = [value for number in parts for value in outcomes[number][REFERENCE]]
    return [{**row, REFERENCE: value} for row, value in zip(rows, values, strict=True)]


def ask_part(
    predictor: Any, number: int, part: WorkPart, progress: Progress, forwards: Forwards
) -> Outcome:
    """A part that has its rows, which are not rendered."""
    return _asked(predictor, part["rows"], False, number, progress, forwards)


def _asked(
    predictor: Any,
    rows: Sequence[Row],
    is_rendered: bool,
    number: int,
    progress: Progress,
    forwards: Forwards,
) -> Outcome:
    """Log-probabilities of both answers of each row of a part."""
    with forwards:
        values = predictor.references(rows, is_rendered=is_rendered)
    progress.update(len(rows), len(rows), "rows", part=number)
    return {"rows": len(rows), "failures": {}, REFERENCE: values}


def with_reference(rows: Sequence[Row], reference: Artifact | None) -> Sequence[Row]:
    """Rows of the test split, with what the base says of them, if it was asked; null of those that
    it cannot be asked."""
    if reference is None:
        return rows
    known = read_arrow(reference.path / f"{TEST}.arrow").to_pydict()
    by_id = dict(zip(known["id"], known[REFERENCE], strict=True))
    return [{**row, REFERENCE: by_id[row["id"]]} for row in rows]
