"""An evaluation: what a model says of labelled rows, and all that follows from it. By hand it is
made of the test split in a model's lineage, or of any labelled file.

It has `records.parquet` (records.py), `evaluation.json` with all that follows from them
(figures.py), and `report.html` (report.py); of a file also `dropped.jsonl` (labelled.py), if rows
of it were dropped.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from cluster.errors import UserError
from cluster.runs.progress import Progress
from cluster.store import artifacts
from cluster.store.artifacts import REPORT, Artifact, Draft
from trainers.corpora.cleaning.config import Clean
from trainers.corpora.reading.config import Source
from trainers.models.card import read_card
from trainers.scoring import labelled, records
from trainers.scoring.figures import details, with_intervals
from trainers.scoring.labelled import FileCounts
from trainers.scoring.report import evaluation_page
from trainers.scoring.score import Records, score, score_rows
from trainers.tasks.registry import section_of
from trainers.tasks.spec import TaskSection

FIGURES = "evaluation.json"
TEST, DATA = "test", "data"
"""What figures are of: the test split of the examples, or a file. A gate knows the first alone."""


def evaluated(settings: TaskSection, scored: Records, subject: str) -> dict[str, Any]:
    """All that records of a model say of it."""
    computed = with_intervals(settings, scored)
    title = settings.metrics[settings.headline].title
    headline = {f"{subject} {title}": computed[settings.headline]}
    return {subject: computed, **details(settings, scored), "headline": headline}


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


def evaluate_model(model: Artifact) -> Artifact:
    """The evaluation of a model on the test split that its lineage names, made if it is missing:
    what `promote` asks for. Raises UserError."""
    storage, settings = model.storage, section_of(model)
    examples = examples_of(model)
    if examples is None:
        raise UserError(f"{model.id}: has no labelled test split in its lineage; name its recipe")

    def make() -> tuple[dict[str, Any], Records, None]:
        scored = score(storage, model.id, examples)
        return evaluated(settings, scored, TEST), scored, None

    parents = {"examples": examples.id, "finetune": model.id}
    about = f"{model.id} on its test split"
    return _once(model, settings, "evaluate", parents, {}, TEST, about, make)


def evaluate_on(model: Artifact, source: Source, progress: Progress) -> Artifact:
    """The evaluation of a model on a labelled file, made if it is missing. No gate looks at it.
    Raises UserError."""
    settings, card = section_of(model), read_card(model.path)

    def make() -> tuple[dict[str, Any], Records, FileCounts]:
        reading = settings.for_labels(card.get("labels", ()))
        rows, counts = labelled.rows(source, reading, Clean.model_validate(card["clean"]))
        scored = score_rows(model.storage, model.id, rows)
        unknown = labelled.unknown_labels(scored, card.get("labels"), source, model.id)
        report = labelled.report(rows, counts, unknown, examples_of(model))
        return {**evaluated(settings, scored, DATA), "rows": report}, scored, counts

    inputs, parents = labelled.inputs(source), {"finetune": model.id}
    about = f"{model.id} on {source.path}"
    evaluation = _once(model, settings, "data", parents, inputs, DATA, about, make)
    for line in labelled.lines(evaluation.manifest.metrics["rows"], model.id):
        progress.line(line)
    return evaluation


def examples_of(model: Artifact) -> Artifact | None:
    """Those that a model was fine-tuned on, where they are still there."""
    examples_id = model.manifest.parents.get("examples")
    return None if examples_id is None else artifacts.find(model.storage, examples_id)


def _once(
    model: Artifact,
    settings: TaskSection,
    stage: str,
    parents: Mapping[str, str],
    inputs: Mapping[str, Any],
    subject: str,
    about: str,
    make: Callable[[], tuple[dict[str, Any], Records, FileCounts | None]],
) -> Artifact:
    """The evaluation that follows from these, found or made."""
    storage, recipe = model.storage, model.manifest.recipe
    version = artifacts.fingerprint("evaluation", inputs, parents)
    evaluation_id = f"evaluation/{recipe}-{stage}-{version}"
    known = artifacts.find(storage, evaluation_id)
    if known is not None:
        return known
    evaluation, scored, counts = make()
    with artifacts.drafting(storage, evaluation_id) as draft:
        write(draft, settings, evaluation, scored, subject, about, counts)
        return draft.publish(
            recipe=recipe, stage=stage, parents=parents, inputs=inputs, metrics=evaluation
        )
