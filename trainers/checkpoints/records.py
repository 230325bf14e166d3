"""The checkpoints of a training on storage.

    WORK/step-00000100/TOKEN-00000-of-00002.safetensors   every rank writes its own part
    WORK/step-00000100/TOKEN-00000-of-00002.json          its hash and size, when it is complete
    WORK/step-00000100/record.json                        loop state and all hashes, last

Without a record there is no checkpoint. A run draws a new token whenever it starts or resumes, so
that what a killed run left of a step is never taken for a part of a later checkpoint.
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


def complete_parts(
    storage: Storage, folder: str, token: str, workers: int
) -> dict[str, Any] | None:
    """The files of a record; None while some parts are not complete."""
    names = [part_name(token, rank, workers) for rank in range(workers)]
    if not {f"{name}.json" for name in names} <= storage.files(folder).keys():
        return None
    return {
        f"{name}.safetensors": json.loads(storage.read(f"{folder}/{name}.json")) for name in names
    }


def write_record(storage: Storage, folder: str, record: Record) -> None:
    content = dataclasses.asdict(record)
    document = json.dumps({**content, "sha256": _digest(content)}, indent=1)
    storage.write(f"{folder}/{RECORD}", document.encode())


def read_record(storage: Storage, folder: str) -> Record:
    """Raises FileNotFoundError where there is none, and ValueError for one that is damaged."""
    content: dict[str, Any] = json.loads(storage.read(f"{folder}/{RECORD}"))
    if content.pop("sha256", None) != _digest(content):
        raise ValueError(f"{RECORD} is damaged")
    try:
        return Record(**{**content, "state": LoopState(**content["state"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"another version of raymill wrote it: {error}") from error


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _by_record(storage: Storage, work: str) -> dict[str, bool]:
    """All checkpoints, the earliest first, and whether they have a record. Other work may stand
    beside them."""
    names = [name for name in storage.folders(work) if name.startswith("step-")]
    return {name: storage.exists(f"{work}/{name}/{RECORD}") for name in names}


def prune(storage: Storage, work: str, step: int, kept: int, passed_over: Collection[str]) -> None:
    """Deletes all but the last `kept` good checkpoints up to this step, the unfinished ones and
    those passed over among them too. Later steps were passed over by a run that redoes them."""
    earlier = {
        name: has_record and name not in passed_over
        for name, has_record in _by_record(storage, work).items()
        if name <= step_name(step)
    }
    good = [name for name, is_good in earlier.items() if is_good]
    for name in earlier.keys() - set(good[-kept:]):
        storage.delete(f"{work}/{name}")


def delete_unfinished(storage: Storage, work: str) -> list[str]:
    """Deletes what killed runs left unfinished; returns the names of the others, newest first. Only
    while nothing is saved."""
    has_record = _by_record(storage, work)
    for name in has_record:
        if not has_record[name]:
            storage.delete(f"{work}/{name}")
    return [name for name in has_record if has_record[name]][::-1]
