"""The table of stages: what each makes, from what, and which recipe keys it depends on.

`plan` names the artifact of every stage of a recipe without running anything, since an artifact's
id follows from recipe keys and parents alone. `run` makes those that are missing.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from cluster.errors import RaymillError, UserError
from cluster.lazy_import import lazy_import
from cluster.ray.resources import refuse_unless_fits
from cluster.ray.session import nodes
from cluster.recipe.section import Recipe, identity
from cluster.runs.progress import Console, Progress, Terminal
from cluster.runs.records import Run
from cluster.store import artifacts
from cluster.store.artifacts import Artifact, Draft
from cluster.store.bases import base_model, conversion, taken_for_hub_id
from cluster.store.storage import Storage

SERVE = "serve"
"""The last stage by name. It makes no artifact: it lasts as long as the command."""


@dataclasses.dataclass(frozen=True)
class Stage:
    name: str
    kind: str
    """Of the artifact it makes."""
    function: str
    """`module:function`, called with a StageJob; what it returns are the artifact's metrics."""
    wanted: Callable[[Recipe], Any]
    """Whether a recipe has this stage."""
    parents: tuple[str, ...]
    """Stages whose artifacts it reads, where the recipe has them."""
    keys: tuple[str, ...]
    """Dotted recipe keys that its artifact depends on; a method is called with the recipe."""
    uses_ray: bool = True
    base: str | None = None
    """A dotted key that may name a model of the workspace, which is its parent `base` then."""
    trains: str | None = None
    """The recipe section whose workers it starts."""
    resumes: bool = False
    """Whether it goes on from the files that a killed run left in its draft."""
    check: str | None = None
    """`module:function`, called with the recipe and the artifact where that is there already:
    refuses what the stage would have refused."""


STAGES = (
    Stage(
        "examples",
        "examples",
        "trainers.corpora.examples.stage:run",
        wanted=lambda recipe: (
            recipe.corpora and (recipe.finetune or recipe.corpora.example_sources(recipe))
        ),
        parents=(),
        keys=("seed", "corpora.examples"),
        resumes=True,
        check="trainers.corpora.examples.stage:refuse_examples",
    ),
    Stage(
        "shard",
        "corpus",
        "trainers.corpora.shard:run",
        wanted=lambda recipe: recipe.corpora and (recipe.pretrain or not recipe.finetune),
        parents=("examples",),
        keys=("seed", "corpora"),
        base="corpora.tokenizer.base",
        resumes=True,
    ),
    Stage(
        "pretrain",
        "model",
        "trainers.pretrain:run",
        wanted=lambda recipe: recipe.pretrain,
        parents=("shard",),
        keys=("seed", "pretrain"),
        base="pretrain.base",
        trains="pretrain",
    ),
    Stage(
        "render",
        "rows",
        "trainers.render:run",
        wanted=lambda recipe: recipe.finetune and recipe.finetune.is_rendered,
        parents=("examples", "pretrain"),
        keys=("finetune.render_inputs",),
        base="finetune.base",
        resumes=True,
    ),
    Stage(
        "reference",
        "reference",
        "trainers.scoring.reference:run",
        wanted=lambda recipe: recipe.finetune and recipe.finetune.asked_of_base,
        parents=("examples", "pretrain", "render"),
        keys=("finetune.asked_of_base", "finetune.precision"),
        base="finetune.base",
        resumes=True,
        trains="finetune",
    ),
    Stage(
        "tune",
        "sweep",
        "tuning.search:run",
        wanted=lambda recipe: recipe.tune,
        parents=("examples", "pretrain", "render", "reference"),
        keys=("seed", "finetune", "tune"),
        base="finetune.base",
        trains="finetune",
    ),
    Stage(
        "finetune",
        "model",
        "trainers.finetune:run",
        wanted=lambda recipe: recipe.finetune,
        parents=("examples", "pretrain", "render", "reference", "tune"),
        keys=("seed", "finetune"),
        base="finetune.base",
        trains="finetune",
    ),
    Stage(
        "evaluate",
        "evaluation",
        "trainers.scoring.evaluation.stage:run",
        wanted=lambda recipe: recipe.finetune,
        parents=("examples", "pretrain", "render", "reference", "tune", "finetune"),
        keys=("seed", "finetune", "finetune.evaluation", "finetune.answering"),
        base="finetune.base",
        resumes=True,
        trains="finetune",
    ),
    Stage(
        "promote",
        "promotion",
        "serving.rollout.promote:run",
        wanted=lambda recipe: recipe.serve,
        parents=("finetune", "evaluate"),
        keys=("serve.gate",),
        uses_ray=False,
    ),
)


@dataclasses.dataclass(frozen=True)
class StageJob:
    """What a stage's function is given."""

    recipe: Recipe
    """With the values that won the search, where the stage comes after one."""
    parents: Mapping[str, Artifact]
    """By stage name."""
    draft: Draft
    """Where its artifact is written."""
    storage: Storage
    progress: Progress
    resources: Mapping[str, float]
    """Of the cluster; empty for a stage that uses no Ray."""


@dataclasses.dataclass(frozen=True)
class Planned:
    stage: Stage
    artifact_id: str
    parents: dict[str, str]
    inputs: dict[str, Any]
    done: Artifact | None


def stages(recipe: Recipe) -> list[Stage]:
    """The stages that a recipe has, in order."""
    return [stage for stage in STAGES if stage.wanted(recipe)]


def stage_names(recipe: Recipe) -> list[str]:
    """The stages that a recipe has by name, and serving if it has that."""
    return [stage.name for stage in stages(recipe)] + [SERVE] * (recipe.serve is not None)


def gpus(recipe: Recipe) -> dict[str, float]:
    """GPUs that sections hold at the same time, at least, for those that hold any. Pure."""
    sections = dict.fromkeys([*(stage.trains for stage in stages(recipe) if stage.trains), SERVE])
    held = {name: getattr(recipe, name) for name in sections}
    wanted = {name: section.resources.get("GPU", 0) for name, section in held.items() if section}
    return {name: count for name, count in wanted.items() if count}


def plan(recipe: Recipe, storage: Storage) -> list[Planned]:
    """Every stage of the recipe in order, with the id of its artifact. Runs nothing."""
    planned: dict[str, Planned] = {}
    for stage in stages(recipe):
        inputs = {key: identity(_value(recipe, key)) for key in stage.keys}
        parents = {name: planned[name].artifact_id for name in stage.parents if name in planned}
        if stage.base is not None:
            base = base_model(storage, _value(recipe, stage.base), stage.base, recipe.name)
            if base is not None:
                parents[artifacts.BASE] = base.id
                if stage.trains is not None:
                    getattr(recipe, stage.trains).refuse_base(base)
        version = artifacts.fingerprint(stage.kind, inputs, parents)
        artifact_id = f"{stage.kind}/{recipe.name}-{stage.name}-{version}"
        done = artifacts.find(storage, artifact_id)
        planned[stage.name] = Planned(stage, artifact_id, parents, inputs, done)
    return list(planned.values())


def select(
    planned: list[Planned], recipe: Recipe, since: str | None = None, until: str | None = None
) -> tuple[list[Planned], bool]:
    """The stages from `since` to `until`, both included, and whether the model is served then.

    Raises UserError for a stage that the recipe does not have.
    """
    names = stage_names(recipe)
    if until == SERVE and SERVE not in names:
        raise UserError(
            f"{recipe.name} has no section serve, so there is no endpoint; its stages are "
            f"{', '.join(names)}"
        )
    for flag, name in (("--from", since), ("--until", until)):
        if name is not None and name not in names:
            raise UserError(f"{flag} {name}: this recipe's stages are {', '.join(names)}")
    first = names.index(since) if since else 0
    last = names.index(until) if until else len(names) - 1
    if names and first > last:
        raise UserError(f"--until {until} comes before --from {since}; the order is {names}")
    for item in planned[:first]:
        if item.done is None:
            raise UserError(
                f"--from {since}: stage {item.stage.name} was not run yet; leave --from out"
            )
    return planned[first : last + 1], SERVE in names[first : last + 1]


def refuse_what_cannot_fit(
    planned: list[Planned],
    recipe: Recipe,
    resources: Mapping[str, float],
    held: Mapping[str, float],
) -> None:
    """Raises UserError if a stage that is still to be made asks for more than there is beside what
    endpoints hold."""
    missing = [item.stage for item in planned if item.done is None]
    for section in {stage.trains: None for stage in missing if stage.trains is not None}:
        refuse_unless_fits(
            f"{section}.workers",
            getattr(recipe, section).resources,
            resources,
            "set fewer workers, or CPUs or GPUs a worker",
            held,
        )
    for stage in missing:
        if stage.uses_ray:
            refuse_unless_fits(stage.name, {"CPU": 1}, resources, "add a node", held)


def run(
    recipe: Recipe,
    storage: Storage,
    planned: list[Planned],
    record: Run,
    terminal: Terminal,
    resources: Mapping[str, float],
) -> dict[str, Artifact]:
    """Makes the missing artifacts of the planned stages, in order; returns all, by stage name."""
    made: dict[str, Artifact] = {}
    for item in planned:
        name = item.stage.name
        with record.stage(name, item.artifact_id) as stage_record:
            artifact = item.done
            if artifact is None:
                with contextlib.closing(Console(terminal, name)) as console:
                    artifact = _make(recipe, storage, item, console, resources)
                stage_record.status = "done"
            else:
                if item.stage.check is not None:
                    lazy_import(item.stage.check)(recipe, artifact)
                stage_record.status = "skipped"
                terminal.err.write(f"{name}: already done, {item.artifact_id}\n")
            stage_record.metrics = artifact.manifest.metrics
            made[name] = artifact
    return made


def _make(
    recipe: Recipe,
    storage: Storage,
    item: Planned,
    console: Console,
    resources: Mapping[str, float],
) -> Artifact:
    stage, parents = item.stage, {}
    for name, parent_id in item.parents.items():
        parent = artifacts.find(storage, parent_id)
        if parent is None:
            raise RaymillError(f"{stage.name}: its input {parent_id} is gone; run it again")
        parents[name] = parent
    if "tune" in parents:
        recipe = lazy_import("tuning.winner:with_winner")(recipe, parents["tune"])
    cache_bytes = recipe.cluster.cache_gb * 1e9
    with artifacts.drafting(storage, item.artifact_id, stage.resumes, cache_bytes) as draft:
        if draft.outdated:
            console.line(f"starts anew: a killed run left work of {draft.outdated}")
        if artifacts.BASE in parents:
            console.line(f"starts from {parents[artifacts.BASE].id}")
        elif stage.base is not None:
            base = _value(recipe, stage.base)
            told = conversion(base) or taken_for_hub_id(storage, base)
            if told:
                console.line(f"{stage.base}: {told}")
        if stage.trains:
            decide = lazy_import("trainers.launch.allocation:decided")
            recipe = decide(recipe, stage.trains, stage.name, nodes(), console)
        job = StageJob(recipe, parents, draft, storage, console, resources)
        metrics = lazy_import(stage.function)(job)
        return draft.publish(
            recipe=recipe.name,
            stage=stage.name,
            parents=item.parents,
            inputs=item.inputs,
            metrics=metrics,
        )


def _value(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part) if value is not None else None
    return value(recipe) if callable(value) else value
