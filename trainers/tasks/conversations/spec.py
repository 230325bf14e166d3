"""What the sections of tasks share whose rows become token ids by a chat template."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from cluster.errors import UserError
from cluster.recipe.section import Conflict, Recipe
from cluster.store.bases import base_path
from trainers.tasks.rendered import RenderedTask

TEMPLATE_KEYS = ("template", "chat_template_kwargs")


class TemplatedTask(RenderedTask):
    render_keys: ClassVar[tuple[str, ...]] = (
        *RenderedTask.render_keys,
        *TEMPLATE_KEYS,
        "template_content",
    )
    fixed: ClassVar[tuple[str, ...]] = (*RenderedTask.fixed, *TEMPLATE_KEYS)

    template: str | None = None
    """A file with the chat template, in Jinja as Transformers has it; by default the base has one.
    It is saved with the model."""
    chat_template_kwargs: dict[str, bool | int | float | str] = Field(default={})
    """Variables that the chat template reads, such as `{enable_thinking: false}`, by which Qwen3
    takes rows without reasoning. They are set in the template that is saved with the model, so that
    whatever asks the model does so by the same token ids."""

    @property
    def has_turns(self) -> bool:
        """Whether its rows go through a chat template."""
        return True

    def conflicts(self, recipe: Recipe) -> Iterator[Conflict]:
        yield from super().conflicts(recipe)
        pretrain = recipe.pretrain
        if not self.has_turns or self.template is not None:
            return
        if pretrain is None or pretrain.base is not None or recipe.corpora is None:
            return
        if recipe.corpora.tokenizer.base is None:
            yield Conflict(
                "finetune.template",
                "the tokenizer of a model from scratch has no chat template; name a file with one, "
                "made of the special tokens [CLS] and [SEP]",
            )

    def faults(self, recipe: Recipe) -> Iterator[Conflict]:
        yield from super().faults(recipe)
        if self.template is not None and not Path(self.template).expanduser().is_file():
            yield Conflict("finetune.template", f"no such file {self.template!r}")
        if self.template is None and self.has_turns:
            yield from without_template(self.base)

    def identity(self) -> dict[str, Any]:
        if self.template is None:
            return super().identity()
        content = Path(self.template).expanduser().read_bytes()
        return {**super().identity(), "template_content": hashlib.sha256(content).hexdigest()[:16]}


class ConversationTask(TemplatedTask):
    objectives: ClassVar[tuple[str, ...]] = ("causal_lm",)


def without_template(base: str | None) -> Iterator[Conflict]:
    """The fault of a base that is a local folder whose tokenizer has no chat template. A GGUF file,
    a hub id and a model of the workspace tell when they are read."""
    try:
        folder = base_path(base or "")
    except UserError:  # the section's own fault
        return
    settings = folder / "tokenizer_config.json"
    if base is None or not settings.is_file() or (folder / "chat_template.jinja").is_file():
        return
    try:
        has_template = "chat_template" in json.loads(settings.read_text("utf-8"))
    except ValueError as error:
        yield Conflict("finetune.base", f"{settings} is damaged: {error}; copy it again")
        return
    if not has_template:
        yield Conflict(
            "finetune.base",
            f"the tokenizer of {base!r} has no chat template; start from a model that was tuned "
            "for chat, or name a file with one, by finetune.template",
        )
