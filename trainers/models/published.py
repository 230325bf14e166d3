"""A model of the workspace: whether its files are as they were, and how it was tested."""

import json
from collections.abc import Mapping
from pathlib import Path

from cluster.errors import UserError
from cluster.store import artifacts
from cluster.store.artifacts import MANIFEST, SCHEMA_VERSION, Artifact
from cluster.store.storage import Storage

EVALUATE = "evaluate"
"""The stage of evaluations on a test split: a gate looks at these alone."""


def refuse_damaged(model: Artifact, place: str) -> None:
    """Raises UserError where the files in this folder of its storage are not of the sizes that its
    manifest says."""
    sizes = model.storage.files(place)
    for name, file in model.manifest.files.items():
        if sizes.get(name) != file["bytes"]:
            problem = f"has {sizes[name]:,} bytes" if name in sizes else "is not there"
            raise UserError(
                f"{model.storage.root}/{place} is damaged: {name} {problem}, should have "
                f"{file['bytes']:,}; copy it again, or delete that folder and run its recipe"
            )


def refuse_other_bytes(folder: Path, hashes: Mapping[str, str] | None = None) -> None:
    """Raises UserError where a folder's files have not these sha256, by default those of its
    manifest, where it has one."""
    storage = Storage(str(folder.absolute()))
    for name, known in (_hashes_in(folder) if hashes is None else hashes).items():
        is_there = (folder / name).is_file()
        if not is_there or storage.sha256(name) != known:
            found = "has other bytes than it was made with" if is_there else "is not there"
            raise UserError(
                f"{folder} is damaged: {name} {found}; copy it again, or delete that folder and "
                "run its recipe"
            )


def _hashes_in(folder: Path) -> dict[str, str]:
    manifest = folder / MANIFEST
    document = json.loads(manifest.read_text("utf-8")) if manifest.is_file() else {}
    # A folder from elsewhere may have a file of this name too.
    if document.get("schema_version") != SCHEMA_VERSION:
        return {}
    return {name: file["sha256"] for name, file in document["files"].items()}


def evaluations_on_test(workspace: Storage, model_id: str) -> list[Artifact]:
    """Those of a model on its test split, the oldest first."""
    return [
        evaluation
        for evaluation in artifacts.listed(workspace, "evaluation")
        if evaluation.manifest.parents.get("finetune") == model_id
        and evaluation.manifest.stage == EVALUATE
    ]
