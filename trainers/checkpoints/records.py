"""The checkpoints of a training on storage.

    WORK/step-00000100/TOKEN-00000-of-00002.safetensors   every rank writes its own part
    WORK/step-00000100/TOKEN-00000-of-00002.json          its hash and size, when it is whole
    WORK/step-00000100/record.json                        loop state and all hashes, last

No record, no checkpoint. The token is drawn anew whenever a run starts or resumes: so what a killed
run left of a step is never taken for a part of what comes after it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from cluster.store.storage import Storage
from trainers.checkpoints.state import LoopState

RECORD = "record.json"


@dataclasses.dataclass(frozen=True)
class Record:
    state: LoopState
    workers: int
    zero_stage: int
    tensor_parallel: int
    loss_scale: dict[str, Any]
    """What DeepSpeed's loss scaler has learned, under fp16."""
    files: dict[str, dict[str, Any]]
    """Name to `{sha256, bytes}`, of every part."""


def step_name(step: int) -> str:
    return f"step-{step:08d}"


def part_name(token: str, rank: int, workers: int) -> str:
    return f"{token}-{rank:05d}-of-{workers:05d}"


def write_seal(storage: Storage, place: str, part: str, sha256: str, size: int) -> None:
    """Says that a part is whole."""
    seal = {"sha256": sha256, "bytes": size}
    storage.write(f"{place}/{part}.json", json.dumps(seal).encode())


def sealed(storage: Storage, place: str, token: str, workers: int) -> dict[str, Any] | None:
    """The files of a checkpoint, as a record has them, or None while some are not whole yet."""
    names = [part_name(token, rank, workers) for rank in range(workers)]
    if not {f"{name}.json" for name in names} <= storage.files(place).keys():
        return None
    return {
        f"{name}.safetensors": json.loads(storage.read(f"{place}/{name}.json")) for name in names
    }


def write_record(storage: Storage, place: str, record: Record) -> None:
    content = dataclasses.asdict(record)
    document = json.dumps({**content, "sha256": _digest(content)}, indent=1)
    storage.write(f"{place}/{RECORD}", document.encode())


def read_record(storage: Storage, place: str) -> Record:
    """Raises FileNotFoundError where there is none, and ValueError for one that is damaged."""
    content: dict[str, Any] = json.loads(storage.read(f"{place}/{RECORD}"))
    if content.pop("sha256", None) != _digest(content):
        raise ValueError(f"{RECORD} is damaged")
    try:
        return Record(**{**content, "state": LoopState(**content["state"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"another version of raymill wrote it: {error}") from error


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def has_record(storage: Storage, place: str) -> bool:
    return storage.exists(f"{place}/{RECORD}")


def _names(storage: Storage, folder: str) -> list[str]:
    """Of all checkpoints, finished or not, the earliest first; other work may stand beside them."""
    return [name for name in storage.folders(folder) if name.startswith("step-")]


def prune(
    storage: Storage, folder: str, step: int, kept: int, passed_over: Collection[str]
) -> None:
    """Deletes all but the last `kept` good checkpoints up to this step: what stands among them
    unfinished or was passed over too. Those of later steps were passed over by a run that now comes
    to them anew."""
    earlier = [name for name in _names(storage, folder) if name <= step_name(step)]
    good = [
        name
        for name in earlier
        if name not in passed_over and has_record(storage, f"{folder}/{name}")
    ]
    for name in earlier:
        if name not in good[-kept:]:
            storage.delete(f"{folder}/{name}")


def sweep(storage: Storage, folder: str) -> list[str]:
    """Deletes what killed runs left unfinished; returns the names of the others, newest first. Only
    while nothing is saved."""
    whole = []
    for name in _names(storage, folder):
        if has_record(storage, f"{folder}/{name}"):
            whole.append(name)
        else:
            storage.delete(f"{folder}/{name}")
    return whole[::-1]
