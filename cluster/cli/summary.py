"""What `raymill status` shows: all runs, a line each, or one run with its stages, its trainings and
the places of what it made."""

import datetime
import math
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.lazy_import import lazy_import
from cluster.runs.progress import labelled, short
from cluster.runs.stored_journals import StoredJournal, thinned
from cluster.store import artifacts
from cluster.store.artifacts import REPORT
from cluster.store.leftovers import Leftover
from cluster.store.storage import CACHE, Storage

HEADLINE_LENGTH = 5
CURVE_WIDTH = 60
BLOCKS = "▁▂▃▄▅▆▇█"


def overview(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each run."""
    rows = [("RUN", "STATUS", "TOOK", "STAGES")]
    for run in runs:
        stages = ", ".join(stage["stage"] for stage in run["stages"])
        error = "".join(run["error"].splitlines()[:1])
        took = duration(sum(stage["seconds"] for stage in run["stages"]))
        rows.append((run["id"], run["status"], took, ": ".join(filter(None, (stages, error)))))
    return list(aligned(rows))


def leftovers(left: Sequence[Leftover], root: str) -> list[str]:
    """What killed runs left, and how to get rid of it."""
    if not left:
        return []
    rows = [
        (f"{root}/{item.name}", f"{item.bytes / 1e6:,.1f} MB", f"last written {item.changed}")
        for item in left
    ]
    return [
        "",
        "Left by runs that did not end. Running the recipe again goes on from it; what no recipe",
        "needs any more can be deleted, folder by folder:",
        *(f"  {line}" for line in aligned(rows)),
    ]


def detail(
    run: Mapping[str, Any], journals: Mapping[str, StoredJournal], places: Mapping[str, str]
) -> list[str]:
    """One run: its stages, the journals of its trainings by stage, and where what it made is."""
    stages = []
    for stage in run["stages"]:
        has_begun_only = stage["status"] == "running" and not stage["seconds"]
        took = "" if has_begun_only else duration(stage["seconds"])
        stages.append((stage["stage"], stage["status"], took, headline(stage)))
    trainings = [line for item in journals.items() for line in _training(*item)]
    blocks = [list(aligned(stages)), trainings]
    return [
        f"{run['id']}  {run['status']}, started {run['started']}",
        *(f"  {line}" for line in run["error"].splitlines()),
        "",
        *(f"  {line}".rstrip() for block in blocks if block for line in (*block, "")),
        *(f"  {line}" for line in aligned([*places.items()])),
    ]


def headline(stage: Mapping[str, Any]) -> str:
    """How a stage went: what it calls its headline, and the first of its other metrics."""
    metrics = stage["metrics"]
    first = {**metrics.get("headline", {}), **metrics.get("splits", {}).get("train", metrics)}
    scalars = [
        labelled(name, value)
        for name, value in first.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool)
    ]
    return "  ".join(scalars[:HEADLINE_LENGTH])


def models(storage: Storage, run: Mapping[str, Any]) -> dict[str, str]:
    """Where the models of a run are, by stage: as other verbs take them."""
    return {
        stage["stage"]: f"{storage.root}/{stage['artifact']}"
        for stage in run["stages"]
        if stage["status"] in ("done", "skipped") and str(stage["artifact"]).startswith("model/")
    }


def pages(storage: Storage, run: Mapping[str, Any]) -> dict[str, str]:
    """The HTML reports of a run's stages and of the run itself: names in the workspace."""
    found = {}
    for stage in run["stages"]:
        artifact = artifacts.find(storage, stage["artifact"]) if stage["artifact"] else None
        if artifact is not None and REPORT in artifact.manifest.files:
            found[stage["stage"]] = f"{artifact.id}/{REPORT}"
    report = f"runs/{run['id']}/{REPORT}"
    return found | ({"run": report} if storage.exists(report) else {})


def reports(storage: Storage, pages: Mapping[str, str]) -> dict[str, str]:
    """Where these reports are."""
    return {name: f"{storage.root}/{page}" for name, page in pages.items()}


def places(models: Mapping[str, str], reports: Mapping[str, str]) -> dict[str, str]:
    """Where what a run made for people is, by what they call it. Pure."""
    return {
        **{f"{stage} model": place for stage, place in models.items()},
        **{f"{name} report": place for name, place in reports.items()},
    }


def open_page(storage: Storage, name: str) -> bool:
    """Shows a page of the workspace in the browser; False where there is none, as without a
    display.

    Of a remote page a copy is shown: what stands beside it may be large.
    """
    if storage.is_local:
        page = Path(storage.root, name)
    else:
        page = CACHE.expanduser() / "pages" / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_bytes(storage.read(name))
    return webbrowser.open(page.as_uri())


def curve(values: Sequence[float]) -> str:
    """Finite values as a row of blocks, the highest block for the largest value."""
    low, high = min(values), max(values)
    scale = (len(BLOCKS) - 1) / ((high - low) or 1.0)
    return "".join(BLOCKS[round((value - low) * scale)] for value in values)


def _training(stage: str, journal: StoredJournal) -> list[str]:
    """The loss over steps, and where the time went."""
    lines, account = [], journal.account
    loss = [point for point in journal.points("loss") if math.isfinite(point[1])]
    if loss:
        (step, last), values = loss[-1], [value for _, value in thinned(loss, CURVE_WIDTH)]
        lines.append(f"{stage}: loss {loss[0][1]:.4g} {curve(values)} {last:.4g} at step {step:,}")
    until = datetime.datetime.fromtimestamp(account.until, datetime.UTC)
    parts = [
        f"{part.replace('_', ' ')} {seconds / account.whole:.1%}"
        for part, seconds in account.as_metrics()["wall_seconds"].items()
    ]
    return [
        *lines,
        f"{stage}: goodput {account.goodput:.1%} of {duration(account.whole)}, "
        f"until {until:%H:%M:%S} UTC",
        f"{stage}: {', '.join(parts)}",
    ]


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows with their columns under each other; the last column is as long as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
        yield "  ".join(cells).rstrip()


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def figures(evaluation: Mapping[str, Any]) -> list[str]:
    """A line for each set of figures of an evaluation, with their intervals."""
    shown_intervals = lazy_import("trainers.scoring.evaluation.text:shown_intervals")
    rows = []
    sets = {**evaluation, **evaluation.get("seeds", {})}
    sets.pop("headline", None)
    for name, of_set in sets.items():
        if not isinstance(of_set, Mapping):
            continue
        intervals = shown_intervals(of_set)
        numbers = [
            labelled(*item) + _interval(intervals.get(item[0]))
            for item in of_set.items()
            if isinstance(item[1], int | float)
        ]
        if numbers:
            rows.append((name, "  ".join(numbers)))
    return list(aligned(rows))


def _interval(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" [{short(interval[0])}, {short(interval[1])}]"
