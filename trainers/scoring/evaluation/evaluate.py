"""An evaluation: what a model says of labelled rows, and all that follows from it. By hand it is
made of the test split in a model's lineage, or of any labelled file, by the workers that score.

It has `records.parquet` (records.py), `evaluation.json` with all that follows from them
(figures.py), and `report.html` (report.py); of a file also `dropped.jsonl` (labelled.py), if rows
of it were dropped.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.errors import UserError
from cluster.runs.progress import Progress
from cluster.store import artifacts
from cluster.store.artifacts import REPORT, Artifact, Draft
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.examples.stage import rows_in
from trainers.corpora.reading.config import Source
from trainers.models.published import EVALUATE, evaluations_on_test
from trainers.scoring.answers import Row
from trainers.scoring.evaluation import labelled, records
from trainers.scoring.evaluation.figures import details, tally_of, with_intervals
from trainers.scoring.evaluation.labelled import FileCounts
from trainers.scoring.evaluation.report import evaluation_page
from trainers.scoring.evaluation.score_rows import Records, records_of
from trainers.scoring.model import Model
from trainers.scoring.reference import asked_rows, with_reference
from trainers.scoring.source import name_of
from trainers.scoring.workers import Room
from trainers.tasks.spec import REFERENCE, TaskSection

FIGURES = "evaluation.json"
LEFT_OUT = "left_out"
"""Key of the numbers of rows that the model cannot be asked, by reason."""
TEST, DATA = "test", "data"
"""What figures are of: the test split of the examples, or a file. A gate knows the first alone."""


@dataclasses.dataclass(frozen=True)
class EvaluationPlan:
    """A model and the rows that it is to be evaluated on."""

    model: Model
    settings: TaskSection
    id: str
    stage: str
    parents: Mapping[str, str]
    inputs: Mapping[str, Any]
    about: str
    """For people: which model is evaluated on what."""
    done: Artifact | None
    """The evaluation, where it was made before; then the rows are not read."""
    rows: Sequence[Row] = ()
    base: Model | None = None
    """What is asked about the rows before, where figures are against it and nothing says it."""
    source: Source | None = None
    """Of the rows, where they are those of a file."""
    counts: FileCounts = dataclasses.field(default_factory=FileCounts)
    """What became of the rows of the file."""
    unknown_labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Rows of the file by each label of theirs that the model does not know."""

    @property
    def subject(self) -> str:
        return TEST if self.source is None else DATA


def evaluated(settings: TaskSection, scored: Records, subject: str) -> dict[str, Any]:
    """All that records of a model say of it."""
    tally = tally_of(settings, scored)
    computed = with_intervals(settings, scored, tally)
    title = settings.metrics[settings.headline].title
    headline = {f"{subject} {title}": computed[settings.headline]}
    return {subject: computed, **details(scored, tally), "headline": headline}


def write(
    draft: Draft,
    settings: TaskSection,
    evaluation: Mapping[str, Any],
    scored: Records,
    subject: str,
    about: str,
    counts: FileCounts | None = None,
) -> None:
    """The artifact's files; `about` says for people which model was evaluated on what, and `counts`
    are of the file that it was evaluated on."""
    with draft.folder() as folder:
        text = json.dumps(evaluation, indent=1, ensure_ascii=False)
        (folder / FIGURES).write_text(text, encoding="utf-8")
        records.write(scored, folder)
        aside = counts.aside if counts else []
        if counts and aside:
            counts.write(folder)
        page = evaluation_page(settings, evaluation, scored, draft.id, subject, about, aside)
        (folder / REPORT).write_text(page, encoding="utf-8")


def plan_evaluation(
    model: Model, source: Source | None = None, of_rows: Sequence[str] = ()
) -> EvaluationPlan:
    """Of the test split that the model's lineage names, or of a labelled file, whose rows are read
    by the task with these keys, `finetune.KEY=VALUE`. Raises UserError."""
    return _on_test_split(model) if source is None else _on_file(model, source, of_rows)


def _on_test_split(model: Model) -> EvaluationPlan:
    """What `promote` asks for. The stage `evaluate` of the model's recipe may have made it."""
    settings, examples = model.settings, model.examples
    if examples is None:
        raise UserError(
            f"{model.id}: has no test split in its lineage in {model.workspace.root}; "
            "name its recipe, or a file to evaluate on by --data"
        )
    of_both = [
        known
        for known in evaluations_on_test(model.workspace, model.id)
        if known.manifest.parents.get("examples") == examples.id
        and model.card.items() >= known.manifest.inputs.get("finetune.answering", {}).items()
    ]
    parents = {"examples": examples.id, "finetune": model.id}
    done = of_both[-1] if of_both else None
    rows = [] if done else with_reference(rows_in(examples, TEST), model.reference)
    name, about = _id(model, EVALUATE, parents, {}), f"{model.id} on its test split"
    base = _to_ask(model, settings, rows)
    return EvaluationPlan(model, settings, name, EVALUATE, parents, {}, about, done, rows, base)


def _on_file(model: Model, source: Source, of_rows: Sequence[str]) -> EvaluationPlan:
    """No gate looks at it."""
    settings, parents = model.settings, {"finetune": model.id}
    reading = labelled.reading(settings, of_rows)
    inputs, about = labelled.inputs(source), f"{model.id} on {name_of(source)}"
    if of_rows:
        inputs["rows"] = sorted(of_rows)
    name = _id(model, DATA, parents, inputs)
    done = artifacts.find(model.workspace, name)
    planned = EvaluationPlan(
        model, settings, name, DATA, parents, inputs, about, done, source=source
    )
    if done is not None:
        return planned
    card = model.card
    known = card.get("labels")
    source, reading = labelled.with_label_map(source, reading)
    reading = reading.for_labels(known or ())
    rows, counts = labelled.rows(source, reading, Clean.model_validate(card["clean"]))
    unknown = labelled.unknown_labels(rows, reading, known, source, model.id)
    base = _to_ask(model, settings, rows)
    return dataclasses.replace(planned, rows=rows, base=base, counts=counts, unknown_labels=unknown)


def _to_ask(model: Model, settings: TaskSection, rows: Sequence[Row]) -> Model | None:
    is_asked = settings.asked_of_base and rows and REFERENCE not in rows[0]
    return model.base if is_asked else None


def _id(model: Model, stage: str, parents: Mapping[str, str], inputs: Mapping[str, Any]) -> str:
    version = artifacts.fingerprint("evaluation", inputs, parents)
    return f"evaluation/{model.name}-{stage}-{version}"


def evaluate(plan: EvaluationPlan, room: Room, progress: Progress) -> Artifact:
    """The evaluation, made if it is missing. Raises UserError."""
    evaluation = plan.done or _make(plan, room, progress)
    if plan.source is not None:
        for line in labelled.lines(evaluation.manifest.metrics["rows"], plan.model.id):
            progress.line(line)
    return evaluation


def _make(plan: EvaluationPlan, room: Room, progress: Progress) -> Artifact:
    model, settings, subject = plan.model, plan.settings, plan.subject
    with artifacts.drafting(model.workspace, plan.id, resumes=True) as draft:
        rows = plan.rows
        if plan.base is not None:
            progress.line("asks what the model was trained from about the same rows")
            rows = asked_rows(plan.base, rows, room, progress, draft)
        scored, left_out = records_of(model, rows, room, progress, draft)
        evaluation = {**evaluated(settings, scored, subject), LEFT_OUT: left_out}
        if plan.source is not None:
            evaluation["rows"] = labelled.report(
                plan.rows, plan.counts, plan.unknown_labels, model.examples
            )
        write(draft, settings, evaluation, scored, subject, plan.about, plan.counts)
        return draft.publish(
            recipe=model.name,
            stage=plan.stage,
            parents=plan.parents,
            inputs=plan.inputs,
            metrics=evaluation,
        )
