"""The page of a run: how its trainings went, and where their time did."""

from collections.abc import Mapping
from typing import Any

from cluster.cli.summary import duration, headline
from cluster.runs.stored_journals import StoredJournal, thinned
from trainers.corpora.report.curves import Curve, curves
from trainers.corpora.report.page import Bar, Plot, Section, Table, render

POINTS = 300
"""Of a curve; a longer one is shown by the means of neighbours."""
TRAINING, VALIDATION = "kept", "dropped"
"""Their colours."""
METRICS = {
    "learning_rate": "Learning rate",
    "gradient_norm": "Norm of the gradient, before it is clipped",
    "tokens_per_second": "Tokens a second",
    "mfu": "MFU: share of what the processors can multiply",
    "data_wait": "Share of the steps' time that waits for data",
    "rss_peak_gb": "Most memory of a worker so far, GB",
    "gpu_peak_gb": "Most memory of a GPU so far, GB",
}


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
    table = Table("Stages of this run", ("Stage", "Status", "Took", ""), rows, names=4)
    trainings = [_training(name, journal) for name, journal in journals.items()]
    stages = Section("Stages", run["error"], tables=[table])
    return render("Run", run["id"], tiles, [stages, *trainings])


def _training(name: str, journal: StoredJournal) -> Section:
    restarts = [entry["step"] for entry in journal.entries if entry["what"] == "start"][1:]

    def training_curve(metric: str) -> list[Curve]:
        points = thinned(journal.points(metric), POINTS)
        return [Curve(points, TRAINING)] if points else []

    def validation_curve(metric: str) -> list[Curve]:
        points = journal.points(metric, "validation")
        return [Curve(points, VALIDATION, dotted=True)] if points else []

    validated = {key: None for line in journal.metrics for key in line.get("validation", {})}
    validated.pop("loss", None)
    shown = {"Loss": training_curve("loss") + validation_curve("loss")}
    shown |= {caption: training_curve(metric) for metric, caption in METRICS.items()}
    shown |= {f"Validation: {metric}": validation_curve(metric) for metric in validated}
    plots = [
        Plot(caption, svg=curves(lines, restarts)) for caption, lines in shown.items() if lines
    ]
    return Section(
        f"Training: {name}",
        "Over steps. Broken upright lines are where it resumed after a restart.",
        {TRAINING: "training", VALIDATION: "validation"},
        [*plots, _time(journal)],
    )


def _time(journal: StoredJournal) -> Plot:
    account = journal.account
    parts = account.as_metrics()["wall_seconds"] or {"compute": 0.0}
    shown = [
        Bar(
            part.replace("_", " "),
            seconds,
            f"{seconds / max(account.whole, 1e-9):.1%} · {duration(seconds)}",
            TRAINING if part == "compute" else VALIDATION,
        )
        for part, seconds in parts.items()
    ]
    caption = f"Where {duration(account.whole)} went; goodput {account.goodput:.1%}"
    return Plot(caption, shown)
