"""How runs are shown to people: one a line, or one with its stages and the pages they made. Pure,
but for `pages`, which reads manifests, and `open_page`."""

import datetime
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.cli.drawing import bars, curve
from cluster.runs.stored_journals import StoredJournal
from cluster.store import artifacts
from cluster.store.artifacts import REPORT
from cluster.store.leftovers import Leftover
from cluster.store.storage import CACHE, Storage

HEADLINES: Mapping[str, Mapping[str, str]] = {
    "examples": {"kept": "kept", "train": "train", "validation": "validation", "test": "test"},
    "shard": {
        "splits.train.tokens": "training tokens",
        "splits.train.sequences": "sequences",
        "packing_efficiency": "packing efficiency",
        "characters_per_token": "characters a token",
    },
    "pretrain": {
        "perplexity": "validation perplexity",
        "tokens": "tokens",
        "tokens_per_second": "tokens a second",
        "mfu": "MFU",
        "goodput": "goodput",
    },
    "tune": {"trials": "trials"},
    "finetune": {"steps": "steps", "goodput": "goodput"},
    "evaluate": {"seeds.gain from pretraining.mean": "gain from pretraining"},
    "promote": {"model": "model"},
    "serve": {"url": "at"},
}
"""Of a stage's many metrics those that say how it went, by dotted name, with what they are called;
`--json` has all. What a task's own metrics are called, a stage says in `headline`."""


def overview(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a run."""
    rows = [("RUN", "STATUS", "TOOK", "STAGES")]
    for run in runs:
        stages = run["stages"]
        told = [", ".join(stage["stage"] for stage in stages), *run["error"].splitlines()[:1]]
        took = duration(sum(stage["seconds"] for stage in stages))
        rows.append((run["id"], run["status"], took, ": ".join(filter(None, told))))
    return list(aligned(rows))


def leftovers(left: Sequence[Leftover], root: str) -> list[str]:
    """What killed runs left, with how to be rid of it."""
    if not left:
        return []
    rows = [
        (f"{root}/{item.name}", f"{item.bytes / 1e6:,.1f} MB", f"last written {item.changed}")
        for item in left
    ]
    return [
        "",
        "Left by runs that did not end. Run the recipe again to go on from it; what no recipe",
        "needs any more can be deleted, folder by folder:",
        *(f"  {line}" for line in aligned(rows)),
    ]


def detail(
    run: Mapping[str, Any],
    journals: Mapping[str, StoredJournal],
    places: Mapping[str, str],
) -> list[str]:
    """One run: its stages with their headlines, their journals, and where what it made is, by what
    that is."""
    stages = [
        (stage["stage"], stage["status"], _took(stage), headline(stage)) for stage in run["stages"]
    ]
    return [
        f"{run['id']}  {run['status']}, started {run['started']}",
        *(f"  {line}" for line in run["error"].splitlines()),
        "",
        *(f"  {line}" for line in aligned(stages)),
        *([""] if stages else []),
        *(
            f"  {line}".rstrip()
            for stage, journal in journals.items()
            for line in _drawn(stage, journal)
        ),
        *(f"  {line}" for line in aligned([*places.items()])),
    ]


def headline(stage: Mapping[str, Any]) -> str:
    """The metrics of a stage's record that say how it went."""
    metrics = stage["metrics"]
    known = HEADLINES.get(stage["stage"], {}).items()
    found = {**metrics.get("headline", {}), **{name: _at(metrics, key) for key, name in known}}
    shown = {name: value for name, value in found.items() if value is not None}
    return "  ".join(f"{name} {_short(value)}" for name, value in shown.items())


def models(storage: Storage, run: Mapping[str, Any]) -> dict[str, str]:
    """Where the models of a run are, by stage: as other verbs take them."""
    return {
        stage["stage"]: f"{storage.root}/{stage['artifact']}"
        for stage in run["stages"]
        if stage["status"] in ("done", "skipped") and str(stage["artifact"]).startswith("model/")
    }


def pages(storage: Storage, run: Mapping[str, Any]) -> dict[str, str]:
    """The pages for people of a run and its stages: where in the workspace they are, by what they
    show."""
    own = f"runs/{run['id']}/{REPORT}"
    found = {
        stage["stage"]: artifacts.find(storage, stage["artifact"])
        for stage in run["stages"]
        if stage["artifact"]
    }
    of_stages = {
        stage: f"{artifact.id}/{REPORT}"
        for stage, artifact in found.items()
        if artifact is not None and REPORT in artifact.manifest.files
    }
    return of_stages | ({"run": own} if storage.exists(own) else {})


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


def _drawn(stage: str, journal: StoredJournal) -> list[str]:
    """The loss over steps, and where the time went."""
    made, title, loss = journal.account, stage, journal.points("loss")
    if loss:
        title += f": loss over steps, {loss[-1][1]:.4g} at step {loss[-1][0]:,}"
    until = datetime.datetime.fromtimestamp(made.until, datetime.UTC)
    parts = made.as_metrics()["wall_seconds"]
    shares = {part.replace("_", " "): seconds / made.whole for part, seconds in parts.items()}
    return [
        title,
        *(f"  {line}" for line in curve(loss)),
        f"{stage}: goodput {made.goodput:.1%} of {duration(made.whole)}, "
        f"until {until:%H:%M:%S} UTC",
        *(f"  {line}" for line in bars(shares)),
        "",
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


def _took(stage: Mapping[str, Any]) -> str:
    is_open = stage["status"] == "running" and not stage["seconds"]  # in a remote workspace
    return "" if is_open else duration(stage["seconds"])


def _at(metrics: Mapping[str, Any], key: str) -> Any:
    value: Any = metrics
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
