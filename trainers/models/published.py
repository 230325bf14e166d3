"""A model of the workspace: whether its files are as they were, and how it was tested."""

from cluster.errors import UserError
from cluster.store import artifacts
from cluster.store.artifacts import Artifact
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


def evaluations_on_test(workspace: Storage, model_id: str) -> list[Artifact]:
    """Those of a model on its test split, the oldest first."""
    return [
        evaluation
        for evaluation in artifacts.listed(workspace, "evaluation")
        if evaluation.manifest.parents.get("finetune") == model_id
        and evaluation.manifest.stage == EVALUATE
    ]
