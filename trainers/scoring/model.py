"""A model of a task that scores rows: one of a workspace, or in a folder that stands anywhere."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import UserError
from cluster.recipe.section import DEFAULT_WORKSPACE
from cluster.store import artifacts
from cluster.store.artifacts import MANIFEST, Artifact, Draft
from cluster.store.bases import base_folder
from cluster.store.storage import Storage
from trainers.corpora.reading.sources import base_hash
from trainers.models.card import CARD, read_card
from trainers.models.published import refuse_damaged
from trainers.tasks.registry import TASKS, section_of, task_of
from trainers.tasks.spec import TaskSection

if TYPE_CHECKING:
    import torch

    from trainers.tasks.predictor import Predictor

PRETRAIN = "pretrain"
"""The stage whose model a training begins with, where none is named."""


@dataclasses.dataclass(frozen=True)
class Model:
    """Small and picklable."""

    id: str
    name: str
    """Of its recipe, or of its folder."""
    task: str
    storage: Storage
    place: str
    """Its folder in the storage."""
    hashes: Mapping[str, str]
    """The sha256 of its files."""
    workspace: Storage
    """Where what is made of it is kept."""
    artifact: Artifact | None = None
    """Its manifest; None of a folder that has none."""
    weights: Callable[[], str | None] | None = None
    """Says on each node where the weights are that answer in place of its own: of its base, which
    then is asked as the model is."""
    answering: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Keys of the section by which it answers, in place of those on its card."""

    @property
    def section(self) -> type[TaskSection]:
        return TASKS[self.task]

    @property
    def settings(self) -> TaskSection:
        """The section `finetune` that made it. Raises UserError where nothing says which."""
        return section_of(self._published)

    @property
    def _published(self) -> Artifact:
        if self.artifact is None:
            raise UserError(
                f"{self.id}: has no {MANIFEST}, which says how it was fine-tuned; copy the whole "
                "folder of the model"
            )
        return self.artifact

    @property
    def card(self) -> dict[str, Any]:
        return read_card(self.storage.local(self.place))

    @property
    def examples(self) -> Artifact | None:
        """Those that it was fine-tuned on, where they are still there."""
        return self._parent("examples")

    @property
    def reference(self) -> Artifact | None:
        """What its base was asked about their rows, where it was and that is still there."""
        return self._parent("reference")

    def _parent(self, stage: str) -> Artifact | None:
        parents = {} if self.artifact is None else self.artifact.manifest.parents
        parent_id = parents.get(stage)
        return None if parent_id is None else artifacts.find(self.workspace, parent_id)

    @property
    def base(self) -> "Model":
        """What it was trained from, which is asked as it is itself. Raises UserError where that is
        gone, or another one."""
        known = self._published.manifest
        settings = known.inputs["finetune"]
        named = settings.get("base")
        stages = (artifacts.BASE, PRETRAIN)
        parents = {stage: self._parent(stage) for stage in stages if stage in known.parents}
        for stage, parent in parents.items():
            if parent is None:
                raise UserError(
                    f"{self.id}: what it was trained from, {known.parents[stage]}, is not in "
                    f"{self.workspace.root}; name the workspace that has it by --workspace, or run "
                    "the recipe again"
                )
        if named is not None and not parents:
            content = base_hash(named, f"{self.id}: finetune.base")
            if content != settings["base_content"]:
                raise UserError(
                    f"{self.id}: finetune.base: {named!r} is not here, or another one than "
                    "it was trained from; put that in its place"
                )
        weights = functools.partial(base_folder, named, parents, PRETRAIN)
        return dataclasses.replace(self, weights=weights)

    def load(self, device: "torch.device") -> "Predictor":
        """Imports torch. Raises UserError where its files are not as they were."""
        from trainers.tasks.predictor import load

        weights = None if self.weights is None else self.weights()
        folder = self.storage.local(self.place)
        return load(folder, device, self.hashes, weights, self.answering)


def model_of(artifact: Artifact) -> Model:
    """A model of a workspace. Raises UserError for one of no task, or with files that are not as
    they were."""
    return _with_manifest(artifact, artifact.id, artifact.storage)


def model_in_folder(target: str, workspace: str | None = None) -> Model | None:
    """The model in a folder that stands in no workspace, if `target` is one. What is made of it is
    kept in the workspace of this name. Raises UserError."""
    folder = Path(target).expanduser().absolute()
    if not (folder / CARD).is_file():
        return None
    storage = Storage(str(folder.parent))
    artifact = artifacts.find(storage, folder.name)
    if artifact is not None and artifact.id == f"{folder.parent.name}/{folder.name}":
        return None
    home = Storage.at(workspace or DEFAULT_WORKSPACE)
    if artifact is not None:
        return _with_manifest(artifact, folder.name, home)
    task = str(read_card(folder).get("task"))
    if task not in TASKS:
        raise UserError(f"{folder / CARD}: no task {task!r}; there are {', '.join(TASKS)}")
    hashes = {name: storage.sha256(f"{folder.name}/{name}") for name in storage.files(folder.name)}
    return Model(str(folder), folder.name, task, storage, folder.name, hashes, home)


def unpublished(draft: Draft, settings: TaskSection) -> Model:
    """One that was just trained, and is no artifact yet."""
    storage, place = draft.storage, draft.place
    return Model(place, draft.id, settings.task, storage, place, {}, storage)


def _with_manifest(artifact: Artifact, place: str, workspace: Storage) -> Model:
    manifest, section = artifact.manifest, task_of(artifact)
    refuse_damaged(artifact, place)
    hashes = {name: file["sha256"] for name, file in manifest.files.items()}
    task = section.model_fields["task"].default
    name, storage = manifest.recipe, artifact.storage
    return Model(artifact.id, name, task, storage, place, hashes, workspace, artifact)
