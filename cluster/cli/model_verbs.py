"""The verbs that take a model: what it says of rows, how good it is, and whether it may serve."""

import argparse
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.cli import summary
from cluster.cli.recorded_run import failures_of, recorded
from cluster.cli.verbs import Answer, run, tell_taken
from cluster.errors import UserError
from cluster.lazy_import import lazy_import
from cluster.ray.session import connected, held, nodes
from cluster.recipe.document import parse
from cluster.recipe.loading import located
from cluster.runs.progress import Console, Terminal
from cluster.runs.records import StageRecord
from cluster.store.artifacts import REPORT, Artifact
from cluster.store.lookup import lookup, placed


def evaluate(options: argparse.Namespace, terminal: Terminal) -> Answer:
    of_a_model = ("data", "against", "workers", "gpus_per_worker")
    given = [name for name in of_a_model if getattr(options, name) is not None]
    if located(options.target) and not given:
        options.since, options.until, options.hold = None, "evaluate", False
        exit_status, answer = run(options, terminal)
        figures = answer["stages"][-1]["metrics"]
        terminal.answer("\n".join(summary.figures(figures)))
        return exit_status, answer
    _refuse_recipe(options.target, given)
    return _evaluate_model(options, terminal)


def _evaluate_model(options: argparse.Namespace, terminal: Terminal) -> Answer:
    source, of_rows = _labelled_file(options)
    model, against = _model(options.target, options, terminal), None
    models = {"evaluate": model}
    if options.against is not None:
        against = models["against"] = _model(options.against, options, terminal)
        lazy_import("trainers.scoring.evaluation.compare:refuse_unlike")(model, against)
    plan = lazy_import("trainers.scoring.evaluation.evaluate:plan_evaluation")
    plans = {name: plan(each, source, of_rows) for name, each in models.items()}
    is_made = all(each.done is not None for each in plans.values())
    ray = None if is_made else connected(options.address, cpus=None)
    made: dict[str, Artifact] = {}
    with (
        recorded(model.name, model.workspace, terminal) as record,
        ray or contextlib.nullcontext({}) as resources,
    ):
        room = None if is_made else _room(resources, options)
        for name, each in plans.items():
            with (
                record.stage(name) as stage,
                contextlib.closing(Console(terminal, name)) as console,
            ):
                evaluate_rows = lazy_import("trainers.scoring.evaluation.evaluate:evaluate")
                made[name] = evaluate_rows(each, room, console)
                _note(stage, made[name])
        if against is not None:
            with record.stage("compare") as stage:
                compare = lazy_import("trainers.scoring.evaluation.compare:compare_evaluations")
                made["compare"] = compare(model, against, made["evaluate"], made["against"])
                _note(stage, made["compare"])
    return 0, _shown(model, made, terminal)


def _shown(model: Any, made: Mapping[str, Artifact], terminal: Terminal) -> dict[str, Any]:
    """What `--json` prints; the terminal shows it as tables."""
    evaluation, comparison = made["evaluate"], made.get("compare")
    figures = evaluation.manifest.metrics
    reports = {name: f"{each.storage.root}/{each.id}/{REPORT}" for name, each in made.items()}
    places = [*summary.aligned([(f"{name} report", place) for name, place in reports.items()])]
    terminal.answer("\n".join(summary.figures(figures)))
    answer = {"model": model.id, "evaluation": evaluation.id, "reports": reports, **figures}
    if comparison is None:
        terminal.answer("\n".join(["", *places]))
        return answer
    table = lazy_import("trainers.scoring.evaluation.compare:table")(comparison, model.section)
    flipped = lazy_import("trainers.scoring.evaluation.compare:flipped")(comparison)
    terminal.answer("\n".join(["", *summary.aligned(table), *flipped, "", *places]))
    return {**answer, "comparison": {"id": comparison.id, **comparison.manifest.metrics}}


def score(options: argparse.Namespace, terminal: Terminal) -> Answer:
    model = _model(options.target, options, terminal)
    source = lazy_import("trainers.scoring.batch.job:source_of")(
        options.source, options.overrides, model.section
    )
    plan = lazy_import("trainers.scoring.batch.job:make_plan")(
        model, source, options.out, options.format, options.prefix, terminal.err.write
    )
    out, manifest = plan.job.out, plan.manifest
    if manifest is None:
        with (
            recorded(model.name, model.workspace, terminal) as record,
            record.stage("score") as stage,
            connected(options.address, cpus=None) as resources,
            failures_of(out),
            contextlib.closing(Console(terminal, "score")) as console,
        ):
            room = _room(resources, options)
            manifest = lazy_import("trainers.scoring.batch.run:run")(plan, room, console)
            stage.status = "done"
            stage.metrics = {"rows": manifest["rows"], "failures": manifest["failures"]}
    else:
        terminal.err.write(f"score: nothing to do, {out.root} is finished\n")
    described = lazy_import("trainers.scoring.batch.run:described")
    terminal.answer("\n".join(described(manifest, out.root)))
    return 0, {"out": out.root, **manifest}


def promote(options: argparse.Namespace, terminal: Terminal) -> Answer:
    gate = dict(map(_limit, options.gate))
    model = _artifact(options.target, options, terminal)
    promotion = lazy_import("serving.rollout.promote:promote")(model, gate)
    terminal.err.write(f"promote: {promotion.manifest.metrics['model']}, as {promotion.id}\n")
    return 0, {"promotion": promotion.id, **promotion.manifest.metrics}


def _model(name: str, options: argparse.Namespace, terminal: Terminal) -> Any:
    """Of a workspace, or in a folder that stands anywhere."""
    model = lazy_import("trainers.scoring.model:model_in_folder")(name, options.workspace)
    if model is None:
        model = lazy_import("trainers.scoring.model:model_of")(_artifact(name, options, terminal))
    return model


def _artifact(name: str, options: argparse.Namespace, terminal: Terminal) -> Artifact:
    _refuse_recipe(name)
    storage, reference = placed(name, options.workspace)
    model = lookup(storage, "model", reference, stage="finetune")
    tell_taken(reference, model, terminal)
    return model


def _refuse_recipe(name: str, options: Sequence[str] = ()) -> None:
    """Raises UserError for a recipe's file where a model is meant, as with these options."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return
    given = f"--{options[0].replace('_', '-')}: goes with a MODEL, and " if options else ""
    raise UserError(
        f"{given}{name} is a recipe's file; the newest model that it made is called "
        f"{parse(path).get('name')}, or name one by its id (model/...)"
    )


def _labelled_file(options: argparse.Namespace) -> tuple[Any, list[str]]:
    """The source that `--data` and `--set` describe, or None; and those of `--set` that say how the
    task reads its rows, by keys of `finetune`."""
    if options.data is None and options.overrides:
        raise UserError(
            f"--set: goes with a recipe or with --data; {options.target} is a model, as it is"
        )
    if options.data is None:
        return None, []
    of_rows = [each for each in options.overrides if each.startswith("finetune.")]
    others = [each for each in options.overrides if each not in of_rows]
    named = lazy_import("trainers.scoring.source:named_source")
    return named(options.data, others, "--data"), of_rows


def _room(resources: dict[str, float], options: argparse.Namespace) -> Any:
    """What workers may take of the cluster that is connected."""
    return lazy_import("trainers.scoring.workers:Room")(
        nodes(), resources, held(), options.workers, options.gpus_per_worker
    )


def _note(stage: StageRecord, made: Artifact) -> None:
    stage.status, stage.artifact, stage.metrics = "done", made.id, made.manifest.metrics


def _limit(text: str) -> tuple[str, float]:
    """Of `--gate METRIC=NUMBER`. Raises UserError."""
    name, _, value = text.partition("=")
    try:
        limit = float(value)
    except ValueError:
        raise UserError(f"--gate {text!r}: expected METRIC=NUMBER, such as accuracy=0.8") from None
    return name, limit
