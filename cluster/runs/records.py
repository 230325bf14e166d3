"""The record of a run: what was done, how long it took, how it ended. It outlives the cluster.

workspace/runs/20261123-150405-123456-quickstart/
    run.json        stages, seconds, metrics, status; rewritten at every change
    log.txt         all that Ray, DeepSpeed and Transformers printed
"""

import contextlib
import dataclasses
import datetime
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.store.lock import locked
from cluster.store.storage import CACHE, Storage

RECORD, LOG = "run.json", "log.txt"


@dataclasses.dataclass
class StageRecord:
    stage: str
    status: str
    """running, done, skipped (its artifact was there), failed or interrupted."""
    artifact: str | None = None
    began: float = 0.0
    """Seconds since 1970."""
    seconds: float = 0.0
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Run:
    id: str
    recipe: str
    storage: Storage
    folder: Path
    """Local, for the log; the workspace has a copy if that is remote."""
    started: str = ""
    status: str = "running"
    error: str = ""
    pid: int = 0
    stages: list[StageRecord] = dataclasses.field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / LOG

    def save(self) -> None:
        record = {
            key: getattr(self, key) for key in ("id", "recipe", "started", "status", "error", "pid")
        }
        record["stages"] = [dataclasses.asdict(stage) for stage in self.stages]
        place = f"runs/{self.id}"
        text = json.dumps(record, indent=1, ensure_ascii=False)
        self.storage.write(f"{place}/{RECORD}", text.encode())
        if not self.storage.is_local and self.log.exists():
            self.storage.write(f"{place}/{LOG}", self.log.read_bytes())

    @contextlib.contextmanager
    def stage(self, name: str, artifact: str | None = None) -> Iterator[StageRecord]:
        """Times a stage, of which `artifact` is to come, and records how it ended."""
        record = StageRecord(name, "running", artifact, began=time.time())
        self.stages.append(record)
        self.save()
        began = time.monotonic()
        try:
            yield record
        except BaseException as error:  # recorded and passed on: also Ctrl-C is an ending
            record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            raise
        finally:
            record.seconds = round(time.monotonic() - began, 1)
            self.save()


@contextlib.contextmanager
def recorded(storage: Storage, recipe: str) -> Iterator[Run]:
    """A new run of a recipe."""
    started = datetime.datetime.now(datetime.UTC)
    run_id = f"{started:%Y%m%d-%H%M%S-%f}-{recipe}"
    folder = _folder(storage) / run_id
    folder.mkdir(parents=True)
    run = Run(run_id, recipe, storage, folder, f"{started:%Y-%m-%dT%H:%M:%SZ}", pid=os.getpid())
    run.save()
    try:
        yield run
        run.status = "done"
    except BaseException as error:  # recorded and passed on
        run.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        run.error = str(error)
        raise
    finally:
        run.save()


@contextlib.contextmanager
def alone(storage: Storage, recipe: str) -> Iterator[None]:
    """Only one run of a recipe at a time makes artifacts in a workspace, on this machine.

    Raises UserError while another does.
    """
    lock = _folder(storage) / f".{recipe}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    busy = (
        f"another run of this recipe is using the workspace ({lock.parent.parent}); wait for it, "
        "or give another --workspace"
    )
    with locked(lock, busy):
        yield


def _folder(storage: Storage) -> Path:
    return (Path(storage.root) if storage.is_local else CACHE.expanduser()) / "runs"


def listed(storage: Storage) -> list[dict[str, Any]]:
    """All runs of a workspace, the oldest first."""
    runs = []
    for run_id in storage.folders("runs"):
        # A run may have ended before its first record; copies and mended disks have half ones.
        with contextlib.suppress(FileNotFoundError, ValueError):
            runs.append(json.loads(storage.read(f"runs/{run_id}/{RECORD}")))
    for run in runs:
        if run["status"] == "running" and storage.is_local:
            _estimate(run, Path(storage.root) / "runs" / run["id"])
    return runs


def _estimate(record: dict[str, Any], folder: Path) -> None:
    """Completes the record of a run that has not written its end: it runs, or it was killed at the
    time of its last sign of life or later."""
    end = time.time()
    if not Path(f"/proc/{record['pid']}").exists():
        record["status"] = "killed"
        signs = (folder / RECORD, folder / LOG)
        end = max(path.stat().st_mtime for path in signs if path.exists())
    for stage in record["stages"]:
        if stage["status"] == "running":
            stage["status"] = record["status"]
            stage["seconds"] = round(max(0.0, end - stage.get("began", end)), 1)
