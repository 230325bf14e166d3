"""Two models on the same rows: which is better, by how much, and on which rows they differ.

A comparison has `comparison.json`, and `report.html` with the rows that only one has right.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from cluster.errors import UserError
from cluster.store import artifacts
from cluster.store.artifacts import REPORT, Artifact
from trainers.scoring.evaluation import records
from trainers.scoring.evaluation.comparison_report import comparison_page
from trainers.scoring.evaluation.evaluate import DATA
from trainers.scoring.evaluation.figures import compared
from trainers.scoring.evaluation.paired import same_rows
from trainers.scoring.evaluation.records import Record
from trainers.scoring.evaluation.text import number, p_text
from trainers.scoring.model import Model
from trainers.tasks.spec import TaskSection

COMPARISON = "comparison.json"


def refuse_unlike(model: Model, against: Model) -> None:
    """Raises UserError for models that no rows can compare."""
    if model.workspace.root != against.workspace.root:
        raise UserError(
            f"--against {against.id}: it is in {against.workspace.root}, and {model.id} in "
            f"{model.workspace.root}; compare models of one workspace"
        )
    if model.id == against.id:
        raise UserError(f"--against {against.id}: that is the same model; name another")
    if model.task != against.task:
        raise UserError(
            f"--against {against.id}: it is of the task {against.task}, and {model.id} of "
            f"{model.task}"
        )
    labels, others = ({*each.card.get("labels", ())} for each in (model, against))
    if labels != others:
        raise UserError(
            f"--against {against.id}: their labels differ; only it knows "
            f"{_listed(others - labels)}, only {model.id} knows {_listed(labels - others)}"
        )


def _listed(labels: set[str]) -> str:
    return ", ".join(sorted(labels)) or "none"


def compare_evaluations(
    model: Model, against: Model, evaluation: Artifact, other: Artifact
) -> Artifact:
    """The comparison of two models by their evaluations, made if it is missing. Raises UserError
    where these are not of the same rows."""
    storage, recipe = model.workspace, model.name
    parents = {"evaluate": evaluation.id, "against": other.id}
    version = artifacts.fingerprint("comparison", {}, parents)
    comparison_id = f"comparison/{recipe}-compare-{version}"
    known = artifacts.find(storage, comparison_id)
    if known is not None:
        return known
    settings = model.settings
    first, second, left_out = comparable(
        records.read(evaluation), records.read(other), evaluation.manifest.stage == DATA
    )
    test, *flips = compared(settings, first, second)
    named = {"model": model.id, "against": against.id, "left_out": left_out}
    comparison = {**named, **test}
    with artifacts.drafting(storage, comparison_id) as draft:
        with draft.folder() as folder:
            text = json.dumps(comparison, indent=1, ensure_ascii=False)
            (folder / COMPARISON).write_text(text, encoding="utf-8")
            page = comparison_page(settings, comparison, first, second, flips, draft.id)
            (folder / REPORT).write_text(page, encoding="utf-8")
        title = settings.metrics[settings.headline].title
        difference = test["metrics"][settings.headline]["difference"]
        return draft.publish(
            recipe=recipe,
            stage="compare",
            parents=parents,
            inputs={},
            metrics={**comparison, "headline": {f"difference in {title}": difference}},
        )


def comparable(
    first: Sequence[Record], second: Sequence[Record], of_one_file: bool
) -> tuple[list[Record], list[Record], int]:
    """`same_rows`, and how many rows of a file are left out, since only one model's cleaning keeps
    them. Raises UserError for test splits that are not the same. Pure."""
    ours, theirs = same_rows(first, second)
    only_first, only_second = len(first) - len(ours), len(second) - len(ours)
    if not ours or (not of_one_file and only_first + only_second):
        raise UserError(
            f"--against: the models were tested on other rows: {len(ours):,} are in both test "
            f"sets, {only_first:,} only in the first, {only_second:,} only in the second; compare "
            "them on one file by --data FILE"
        )
    differing = sum(one["gold"] != other["gold"] for one, other in zip(ours, theirs, strict=True))
    if differing and not of_one_file:
        raise UserError(
            f"--against: of {len(ours):,} rows {differing:,} have another label in the second "
            "model's test set; compare them on one file by --data FILE"
        )
    return ours, theirs, only_first + only_second


def table(comparison: Artifact, task: type[TaskSection]) -> list[tuple[str, ...]]:
    """A row a metric of the task, under a head: what the terminal shows."""
    found = comparison.manifest.metrics
    titles = task.metrics
    head = ("METRIC", "MODEL", "AGAINST", "DIFFERENCE [95 % INTERVAL]", "P")
    rows = [
        (
            titles[name].title,
            f"{of['first']:.4f}",
            f"{of['second']:.4f}",
            number(of["difference"], of["interval"], "+"),
            p_text(of["p"]),
        )
        for name, of in found["metrics"].items()
    ]
    return [head, *rows]


def flipped(comparison: Artifact) -> Iterator[str]:
    """How many rows only one of the models has right, in words."""
    found: dict[str, Any] = comparison.manifest.metrics
    yield (
        f"of {found['rows']:,} rows both have {found['both_right']:,} right, only "
        f"{found['model']} {found['only_first_right']:,}, only {found['against']} "
        f"{found['only_second_right']:,} (McNemar's test: p {p_text(found['p_mcnemar'])})"
    )
    if found["left_out"]:
        yield f"{found['left_out']:,} rows are left out: the cleaning of only one model keeps them"
