"""Checkpoints: DeepSpeed's sharded state, and one small record with all loop state.

    WORK/step-00000100/state/...      every rank writes its own part
    WORK/step-00000100/record.json    loop state and the hash of every file, written last

No record, no checkpoint. A load verifies the hashes and falls back to the last good one.
"""

import dataclasses
import json
from typing import Any

import torch.distributed as dist

from cluster.artifacts import Draft
from cluster.progress import Progress
from cluster.storage import Storage

RECORD = "record.json"
TAG = "state"
KEPT = 2


@dataclasses.dataclass
class LoopState:
    """All that a run needs to go on besides weights and optimizer."""

    step: int = 0
    samples: int = 0
    """Consumed since training began: the whole data state."""
    tokens: int = 0
    seconds: float = 0.0
    """Spent training, over all restarts."""
    data_wait_seconds: float = 0.0
    """Of these, how long steps waited for their batch."""
    fraction: float = 0.0
    """Of the training done, by samples or by the clock, whichever is further."""
    evaluations: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    """Of the last steps, where spikes are looked for."""
    anomalies: list[int] = dataclasses.field(default_factory=list)
    """Which of the last steps were not taken."""
    skipped_steps: int = 0
    rollbacks: int = 0
    left_out: list[list[int]] = dataclasses.field(default_factory=list)
    """Consumed samples that the weights have not learned from: [first, one behind the last]."""

    @property
    def data_wait(self) -> float:
        """Share of the training time."""
        return self.data_wait_seconds / max(self.seconds, 1e-9)


def save(engine: Any, state: LoopState, draft: Draft) -> None:
    """Called by every rank at the same step."""
    storage, folder = draft.storage, draft.work
    place = f"{folder}/step-{state.step:08d}"
    if dist.get_rank() == 0:
        storage.delete(place)  # what a killed run left
    dist.barrier()
    with storage.writing(place) as local:
        engine.save_checkpoint(str(local), tag=TAG)
        dist.barrier()
    dist.barrier()
    if dist.get_rank() == 0:
        record = {
            "state": dataclasses.asdict(state),
            "workers": dist.get_world_size(),
            "files": {name: storage.sha256(f"{place}/{name}") for name in storage.files(place)},
        }
        storage.write(f"{place}/{RECORD}", json.dumps(record, indent=1).encode())
        # Those of later steps were passed over, by a run that now comes to them anew.
        earlier = [name for name in storage.folders(folder) if f"{folder}/{name}" <= place]
        for old in earlier[:-KEPT]:
            storage.delete(f"{folder}/{old}")


def restore(engine: Any, draft: Draft, progress: Progress) -> LoopState | None:
    """Loads the last good checkpoint into the engine, on every rank; None if there is none."""
    storage, folder = draft.storage, draft.work
    found: list[Any] = [None]
    if dist.get_rank() == 0:
        found = [_last_good(storage, folder, dist.get_world_size(), progress)]
    dist.broadcast_object_list(found, src=0)
    if found[0] is None:
        return None
    place, state = found[0]
    engine.load_checkpoint(str(storage.local(place)), tag=TAG)
    return LoopState(**state)


def _last_good(
    storage: Storage, folder: str, workers: int, progress: Progress
) -> tuple[str, dict[str, Any]] | None:
    for name in reversed(storage.folders(folder)):
        place = f"{folder}/{name}"
        reason = None
        try:
            record = json.loads(storage.read(f"{place}/{RECORD}"))
        except FileNotFoundError:
            continue  # never finished: a run was killed while it wrote
        if record["workers"] != workers:
            reason = f"it is of {record['workers']} workers, this run has {workers}"
        else:
            present = storage.files(place)
            for file, digest in record["files"].items():
                if file not in present or storage.sha256(f"{place}/{file}") != digest:
                    reason = f"{file} is damaged"
                    break
        if reason is None:
            progress.line(f"resumes from checkpoint {name}")
            return place, record["state"]
        progress.line(f"checkpoint {name} is passed over: {reason}")
    return None
