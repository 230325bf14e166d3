"""The page of a run: how its trainings went, and where their time did. Pure."""

import datetime
from collections.abc import Mapping
from typing import Any

from cluster.cli.drawing import thinned
from cluster.cli.summary import duration, headline
from cluster.runs.stored_journals import StoredJournal
from trainers.corpora.report.page import Plot, Section, Table, render
from trainers.corpora.report.plots import Bar, Curve, bars, curves

POINTS = 300
"""Of a curve; a longer one is shown by the means of neighbours."""
TRAINING, VALIDATION = "kept", "dropped"
"""Their colours."""
METRICS = {
    "learning_rate": "Learning rate",
    "gradient_norm": "Norm of the gradient, before it is clipped",
    "tokens_per_second": "Tokens a second",
    "mfu": "MFU: of what the processors can multiply",
    "data_wait": "Share of the steps' time that waits for data",
    "rss_peak_gb": "Most memory of a worker so far, GB",
    "gpu_peak_gb": "Most memory of a GPU so far, GB",
}
EVENTS = 200
"""Rows of a table; the last ones."""


def run_page(run: Mapping[str, Any], journals: Mapping[str, StoredJournal]) -> str:
    """The page of a run's record, with the journals of its trainings."""
    tiles = {
        "status": run["status"],
        "took": duration(sum(stage["seconds"] for stage in run["stages"])),
    }
    for name, journal in journals.items():
        tiles[f"{name}: goodput"] = f"{journal.account.goodput:.1%}"
        loss = journal.points("loss")
        if loss:
            tiles |= {f"{name}: steps": f"{loss[-1][0]:,}", f"{name}: loss": f"{loss[-1][1]:.4g}"}
    rows = [
        [stage["stage"], stage["status"], duration(stage["seconds"]), headline(stage)]
        for stage in run["stages"]
    ]
    stages = Section(
        "Stages",
        run["error"],
        tables=[Table("Stages of this run", ("Stage", "Status", "Took", ""), rows, names=4)],
    )
    trainings = [_training(name, journal) for name, journal in journals.items()]
    return render("Run", run["id"], tiles, [stages, *trainings])


def _training(name: str, journal: StoredJournal) -> Section:
    again = [entry["step"] for entry in journal.entries if entry["what"] == "start"][1:]
    plots = [Plot("Loss", _loss(name, journal, again))] if journal.points("loss") else []
    for metric, caption in METRICS.items():
        points = thinned(journal.points(metric), POINTS)
        if points:
            svg = curves(f"{name} {metric}", [Curve(points, TRAINING)], again)
            plots.append(Plot(caption, svg))
    for metric in _validated(journal):
        shown = Curve(journal.points(metric, "validation"), VALIDATION, dotted=True)
        plots.append(Plot(f"Validation: {metric}", curves(f"{name} v {metric}", [shown], again)))
    return Section(
        f"Training: {name}",
        "Over steps. Broken upright lines are where it went on after a restart.",
        {TRAINING: "training", VALIDATION: "validation"},
        [*plots, Plot(_went(journal), _time(name, journal))],
        [_events(journal)],
    )


def _loss(name: str, journal: StoredJournal, again: list[float]) -> str:
    shown = [Curve(thinned(journal.points("loss"), POINTS), TRAINING)]
    validation = journal.points("loss", "validation")
    if validation:
        shown.append(Curve(validation, VALIDATION, dotted=True))
    return curves(f"{name} loss", shown, again)


def _validated(journal: StoredJournal) -> list[str]:
    """Metrics of the validation, the loss aside."""
    found = [name for one in journal.metrics for name in one.get("validation", {})]
    return [name for name in dict.fromkeys(found) if name != "loss"]


def _went(journal: StoredJournal) -> str:
    made = journal.account
    return f"Where {duration(made.whole)} went; goodput {made.goodput:.1%}"


def _time(name: str, journal: StoredJournal) -> str:
    made = journal.account
    parts = made.as_metrics()["wall_seconds"] or {"compute": 0.0}
    return bars(
        f"{name} time",
        [
            Bar(
                part.replace("_", " "),
                seconds,
                f"{seconds / max(made.whole, 1e-9):.1%} · {duration(seconds)}",
                TRAINING if part == "compute" else VALIDATION,
            )
            for part, seconds in parts.items()
        ],
    )


def _events(journal: StoredJournal) -> Table:
    rows, restarts = [], 0
    for entry in journal.entries:
        told = ""
        match entry["what"]:
            case "command":
                told = "a command begins"
            case "start":
                told = f"goes on from step {entry['step']:,}" if restarts else "the first step"
                restarts += 1
                told += f", {entry['workers']} workers" if "workers" in entry else ""
            case "steps" if entry.get("saved"):
                told = f"checkpoint of step {entry['step']:,}"
        if told:
            rows.append([_time_of(entry["at"]), told])
    for one in journal.metrics:
        if "validation" in one:
            found = {name: value for name, value in one["validation"].items() if value is not None}
            shown = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
            rows.append([_time_of(one["time"]), f"validation at step {one['step']:,}: {shown}"])
    rows.sort(key=lambda row: row[0])
    head = ("UTC", "What happened")
    return Table("Events", head, rows[-EVENTS:], names=2, folded=True)


def _time_of(at: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M:%S}"
