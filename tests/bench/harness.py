"""The contract of every bench: metrics by name, repeats, medians with their spread, one JSON
object."""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Metric:
    name: str
    unit: str
    measure: Callable[[], float | tuple[float, float]]
    """Called once a repeat. With a peer: (ours, peer), measured one after the other."""
    goal: str = ""
    peer: str = ""


def main(bench: str, metrics: Sequence[Metric], packages: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog=f"python -m tests.bench.{bench}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", choices=[metric.name for metric in metrics])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    results = []
    for metric in metrics:
        if options.only in (None, metric.name):
            results.append(_result(metric, options.repeats))
            if not options.json:
                print(_line(results[-1]), flush=True)
    if options.json:
        versions = {name: importlib.metadata.version(name) for name in packages}
        answer = {"bench": bench, "machine": _machine(), "versions": versions, "results": results}
        print(json.dumps(answer, ensure_ascii=False))


def _result(metric: Metric, repeats: int) -> dict[str, Any]:
    found = [metric.measure() for _ in range(repeats)]
    pairs = [value for value in found if isinstance(value, tuple)]
    values = [ours / peer for ours, peer in pairs] or [float(value) for value in found]  # type: ignore
    return {
        "metric": metric.name,
        "value": statistics.median(values),
        "unit": metric.unit,
        "ours": statistics.median([ours for ours, _ in pairs]) if pairs else None,
        "peer": statistics.median([peer for _, peer in pairs]) if pairs else None,
        "peer_name": metric.peer or None,
        "spread": [min(values), max(values)],
        "goal": metric.goal,
    }


def _line(result: dict[str, Any]) -> str:
    low, high = result["spread"]
    sides = ""
    if result["peer"] is not None:
        of = f" of {result['peer_name']}" if result["peer_name"] else ""
        sides = f" ({result['ours']:.4g} to {result['peer']:.4g}{of})"
    return (
        f"{result['metric']:24} {result['value']:.4g} {result['unit']} "
        f"[{low:.4g}, {high:.4g}]{sides}  goal {result['goal'] or '-'}"
    )


def _machine() -> str:
    information = Path("/proc/cpuinfo").read_text("utf-8")
    model = next(
        (line.partition(": ")[2] for line in information.splitlines() if "model name" in line),
        platform.processor(),
    )
    return f"{model}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
