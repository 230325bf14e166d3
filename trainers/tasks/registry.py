"""The tasks that fine-tuning knows, and the recipe's section `finetune`, which is one of them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union

from pydantic import Tag

from cluster.errors import UserError
from cluster.recipe.section import told_by
from cluster.store.artifacts import Artifact
from trainers.corpora.examples.task_rows import DEFAULT_TASK
from trainers.tasks.chat.spec import Chat
from trainers.tasks.classify.spec import Classify
from trainers.tasks.generate.spec import Generate
from trainers.tasks.ner.spec import Ner
from trainers.tasks.prefer.spec import Prefer
from trainers.tasks.spec import TaskSection

TASKS: Mapping[str, type[TaskSection]] = {
    "chat": Chat,
    "classify": Classify,
    "generate": Generate,
    "ner": Ner,
    "prefer": Prefer,
}
"""A new task is a line here."""

ENGINE_KEYS = ("precision", "optimizer", "deepspeed")
"""Keys in a manifest that no answer depends on, and that may not be valid without keys that a
manifest lacks: `optimizer: muon` needs `zero.stage: 0`, which redoes nothing when it changes."""


def task_of(model: Artifact) -> type[TaskSection]:
    """The task that a model of the workspace was fine-tuned for. Raises UserError if it is none."""
    manifest = model.manifest
    task: str = (manifest.inputs.get("finetune") or {}).get("task", "")
    if manifest.kind != "model" or task not in TASKS:
        raise UserError(
            f"{model.id} is of the stage {manifest.stage}, no model of a task; fine-tune it"
        )
    return TASKS[task]


def section_of(model: Artifact) -> TaskSection:
    """The section `finetune` that made a model, as far as answers and figures depend on it."""
    section = task_of(model)
    keys = model.manifest.inputs["finetune"]
    known = [key for key in section.model_fields if key in keys and key not in ENGINE_KEYS]
    return section.model_validate({key: keys[key] for key in known})


def union(tasks: Sequence[tuple[str, type[TaskSection]]]) -> Any:
    """One section of several, told by its key `task`."""
    if len(tasks) == 1:
        return tasks[0][1]
    members = tuple(Annotated[section, Tag(f"|{name}")] for name, section in tasks)
    return Annotated[Union[members], told_by("task", DEFAULT_TASK)]  # noqa: UP007


FINETUNE = union([*TASKS.items()])
"""The type of the recipe's section `finetune`."""
