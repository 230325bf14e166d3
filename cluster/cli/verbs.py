"""What each verb of the CLI does. A verb returns the exit status and what `--json` prints."""

import argparse
import contextlib
import dataclasses
import threading
from collections.abc import Mapping
from typing import Any

from cluster.cli import summary
from cluster.cli.recorded_run import failures_of, recorded
from cluster.errors import UserError
from cluster.lazy_import import lazy_import
from cluster.ray import jobs
from cluster.ray.resources import less, refuse_unless_fits
from cluster.ray.session import connected, held, is_local
from cluster.recipe.loading import (
    about,
    described,
    find,
    load,
    load_section,
    located,
    named,
    shipped,
    warnings,
)
from cluster.recipe.reference import as_text, reference
from cluster.recipe.section import Recipe
from cluster.runs import pipeline, records, stored_journals
from cluster.runs.progress import Console, Terminal
from cluster.runs.records import LOG, Run
from cluster.store import artifacts, leftovers
from cluster.store.artifacts import Artifact
from cluster.store.bases import conversion
from cluster.store.lookup import placed, taken, workspace
from cluster.store.storage import Storage

Answer = tuple[int, dict[str, Any]]


def recipes(options: argparse.Namespace, terminal: Terminal) -> Answer:
    if options.keys is not None:
        known = reference(options.keys)
        terminal.answer(as_text(known))
        return 0, {"keys": known}
    if options.target is not None:
        text = named(options.target).read_text(encoding="utf-8")
        terminal.answer(text.rstrip())
        return 0, {"recipe": text}
    found = {name: about(path) for name, path in shipped().items()}
    for name, text in found.items():
        terminal.answer(f"{name:20} {text}")
    return 0, {"recipes": found}


def check(options: argparse.Namespace, terminal: Terminal) -> Answer:
    recipe = _recipe(options)
    names = pipeline.stage_names(recipe)
    gpus = pipeline.gpus(recipe)
    told, understood = warnings(recipe), described(recipe)
    terminal.answer(f"{options.target}: valid; stages: {', '.join(names) or 'none'}")
    for line in understood:
        terminal.answer(line)
    if gpus:
        needed = ", ".join(f"{section} {count:g}" for section, count in gpus.items())
        terminal.answer(f"GPUs at least: {needed}")
    for line in told:
        terminal.answer(f"warning: {line}")
    answer: dict[str, Any] = {
        "recipe": recipe.name,
        "stages": names,
        "gpus": gpus,
        "sources": understood,
        "warnings": told,
    }
    if options.show_row is not None:
        _tell_conversion(recipe, terminal)
        with terminal.hushed():
            shown = lazy_import("trainers.show_row:show_row")(recipe, options.show_row)
        answer["row"] = shown
        terminal.answer(shown["text"])
    return 0, answer


def plan(options: argparse.Namespace, terminal: Terminal) -> Answer:
    recipe = _recipe(options)
    if not 0 < options.mfu <= 1:
        raise UserError(f"--mfu {options.mfu:g}: expected a share, such as 0.4")
    hardware = (options.accelerator, options.memory_gb, options.peak_tflops, options.price)
    storage = Storage.at(recipe.workspace)
    _tell_conversion(recipe, terminal)
    with terminal.hushed():
        planned = lazy_import("trainers.planning.plan:plan")(recipe, storage, hardware, options.mfu)
    terminal.answer(lazy_import("trainers.planning.text:as_text")(planned))
    return 0, {"recipe": recipe.name, **planned}


def run(options: argparse.Namespace, terminal: Terminal) -> Answer:
    recipe = _recipe(options)
    storage = Storage.at(recipe.workspace)
    every = pipeline.plan(recipe, storage)
    planned, serves = pipeline.select(every, recipe, options.since, options.until)
    if serves and is_local(options.address):
        recipe.serve.refuse_port_in_use()
    needs_ray = serves or any(item.stage.uses_ray for item in planned if item.done is None)
    ray = connected(options.address, recipe.cluster.cpus) if needs_ray else None
    with failures_of(storage), contextlib.ExitStack() as making:
        making.enter_context(records.alone(storage, recipe.name))
        with (
            recorded(recipe.name, storage, terminal) as record,
            ray or contextlib.nullcontext({}) as resources,
        ):
            if serves:
                _refuse_what_cannot_serve(recipe.name, recipe.serve, resources, options)
            if needs_ray:
                of_endpoints = held()
                pipeline.refuse_what_cannot_fit(planned, recipe, resources, of_endpoints)
                resources = less(resources, of_endpoints)
            made = pipeline.run(recipe, storage, planned, record, terminal, resources)
            if not serves and all(item.done for item in planned):
                why = "every artifact is there" if planned else "the recipe has no stages"
                terminal.err.write(f"{recipe.name}: nothing to do, {why}\n")
            making.close()  # while it serves, it may be trained again
            answer: dict[str, Any] = {"run": record.id, "recipe": recipe.name}
            recorded_run = dataclasses.asdict(record)
            reports = summary.reports(storage, summary.pages(storage, recorded_run))
            places = summary.places(summary.models(storage, recorded_run), reports)
            if places:
                terminal.answer("\n".join(summary.aligned([*places.items()])))
            if serves:
                promoted = made.get("promote") or every[-1].done
                assert promoted is not None, "--from serve is refused where promote is missing"
                answer["endpoint"] = _serve(promoted, recipe.serve, record, terminal, options)
            answer["stages"] = [dataclasses.asdict(stage) for stage in record.stages]
    return 0, answer


def status(options: argparse.Namespace, terminal: Terminal) -> Answer:
    storage = workspace(options.workspace)
    runs = records.listed(storage)
    if options.target is None:
        if options.open or options.html:
            raise UserError("--open, --html: name the run whose report it is; see `raymill status`")
        lines = summary.overview(runs) if runs else [f"no runs yet in {storage.root}"]
        left = leftovers.found(storage, runs)
        terminal.answer("\n".join([*lines, *summary.leftovers(left, storage.root)]))
        return 0, {"runs": runs, "left": [dataclasses.asdict(item) for item in left]}
    runs = [run for run in runs if options.target in (run["id"], run["recipe"])][-1:]
    if not runs:
        raise UserError(f"{options.target}: no such run; see `raymill status`")
    (run,) = runs
    journals = stored_journals.of_run(storage, run)
    folder = f"runs/{run['id']}"
    if options.html:
        page = lazy_import("trainers.engine.run_report:run_page")(run, journals)
        storage.write(f"{folder}/{artifacts.REPORT}", page.encode())
    pages = summary.pages(storage, run)
    models, reports = summary.models(storage, run), summary.reports(storage, pages)
    places = {
        **summary.places(models, reports),
        **{
            f"{stage} metrics": f"{storage.root}/{journal.place}/{stored_journals.METRICS}"
            for stage, journal in journals.items()
        },
        "log": f"{storage.root}/{folder}/{LOG}",
    }
    terminal.answer("\n".join(summary.detail(run, journals, places)))
    if options.open:
        if not pages:
            raise UserError(f"--open: {run['id']} has no report yet; --html makes one")
        opened = [summary.open_page(storage, page) for page in pages.values()]
        if not all(opened):
            terminal.err.write("--open: no browser here; the reports are files to open elsewhere\n")
    return 0, {
        "runs": runs,
        "models": models,
        "reports": reports,
        "journals": {stage: journal.as_json() for stage, journal in journals.items()},
    }


def serve(options: argparse.Namespace, terminal: Terminal) -> Answer:
    if located(options.target):
        options.since, options.until = None, "serve"
        return run(options, terminal)
    storage, reference = placed(options.target, options.workspace)
    promotion = lazy_import("serving.rollout.promote:promotion")(storage, reference)
    tell_taken(reference, promotion, terminal)
    promoted_with = lazy_import("serving.rollout.promote:settings")(promotion)
    settings = load_section("serve", options.overrides, promoted_with)
    if is_local(options.address):
        settings.refuse_port_in_use()
    recipe = promotion.manifest.recipe
    with (
        recorded(recipe, storage, terminal) as record,
        connected(options.address, cpus=None) as resources,
    ):
        _refuse_what_cannot_serve(recipe, settings, resources, options)
        endpoint = _serve(promotion, settings, record, terminal, options)
    return 0, {"run": record.id, "endpoint": endpoint}


def submit(options: argparse.Namespace, terminal: Terminal) -> Answer:
    if options.follow is not None:
        return _follow(options, terminal)
    if options.target is None:
        raise UserError("submit: name a RECIPE to run, or --follow the JOB_ID of one that runs")
    # A mistake is found here, not on the cluster; but the files may be on the cluster alone.
    recipe = load(options.target, options.overrides, options.workspace)
    lazy_import("trainers.corpora.config:refuse_relative")(recipe)
    arguments = [f"--set={override}" for override in options.overrides]
    arguments += [f"--workspace={options.workspace}"] if options.workspace else []
    arguments += [f"--until={options.until}"] if options.until else []
    client = jobs.connect(options.address)
    job_id = jobs.submit(client, find(options.target), [*arguments, "--no-hold"])
    where = f"submit: job {job_id} on {options.address}"
    if options.detach:
        command = f"raymill submit --follow {job_id} --address {options.address}"
        terminal.answer(f"{where}; to follow it: {command}")
        return 0, {"job": job_id, "follow": command}
    terminal.err.write(f"{where}; Ctrl-C stops it\n")
    return jobs.follow(client, job_id, terminal, stop_on_interrupt=True)


def _follow(options: argparse.Namespace, terminal: Terminal) -> Answer:
    of_a_recipe = ("target", "detach", "overrides", "workspace", "until")
    if any(getattr(options, name) for name in of_a_recipe):
        raise UserError(f"--follow {options.follow}: goes with --address alone: the job runs")
    client = jobs.connect(options.address)
    jobs.refuse_unknown(client, options.follow)
    return jobs.follow(client, options.follow, terminal, stop_on_interrupt=False)


def _refuse_what_cannot_serve(
    name: str, settings: Any, resources: Mapping[str, float], options: argparse.Namespace
) -> None:
    if not is_local(options.address):
        lazy_import("serving.rollout.deploy:refuse_what_is_there")(name, settings)
    refuse_unless_fits(
        "serve.min_replicas",
        settings.resources,
        resources,
        "set fewer replicas, or CPUs or GPUs a replica",
    )


def _serve(
    promotion: Artifact,
    settings: Any,
    record: Run,
    terminal: Terminal,
    options: argparse.Namespace,
) -> dict[str, Any]:
    with record.stage("serve") as stage:
        console = Console(terminal, "serve")
        endpoint: dict[str, Any] = lazy_import("serving.rollout.deploy:deploy")(
            promotion, settings, console
        )
        stage.status = "done"
        stage.metrics = {"url": endpoint["url"], "version": endpoint["version"]}
    if options.hold:
        terminal.err.write("serve: serves until Ctrl-C\n")
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            threading.Event().wait()
        if not is_local(options.address):
            lazy_import("serving.rollout.deploy:withdraw")(promotion)
    return endpoint


def _tell_conversion(recipe: Recipe, terminal: Terminal) -> None:
    for section in filter(None, (recipe.pretrain, recipe.finetune)):
        told = conversion(section.base)
        if told:
            terminal.err.write(f"{told}\n")


def _recipe(options: argparse.Namespace) -> Recipe:
    return load(options.target, options.overrides, options.workspace, check_files=True)


def tell_taken(reference: str, artifact: Artifact, terminal: Terminal) -> None:
    if reference == artifact.manifest.recipe:  # otherwise the user knows which
        terminal.err.write(f"{taken(reference, artifact)}\n")
