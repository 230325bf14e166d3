"""What the sections of tasks share whose rows are conversations: the chat template."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from cluster.recipe.section import Conflict, Recipe
from trainers.tasks.rendered import RenderedTask, without_template


class ConversationTask(RenderedTask):
    objectives: ClassVar[tuple[str, ...]] = ("causal_lm",)
    rendering: ClassVar[tuple[str, ...]] = (*RenderedTask.rendering, "template", "template_content")
    fixed: ClassVar[tuple[str, ...]] = (*RenderedTask.fixed, "template")

    template: str | None = None
    """A file with the chat template, in Jinja as Transformers has it; by default the base has one.
    It is saved with the model."""

    def conflicts(self, recipe: Recipe) -> Iterator[Conflict]:
        yield from super().conflicts(recipe)
        pretrain = recipe.pretrain
        if self.template is not None or pretrain is None or pretrain.base is not None:
            return
        if recipe.corpora is not None and recipe.corpora.tokenizer.base is None:
            yield Conflict(
                "finetune.template",
                "the tokenizer of a model from scratch has no chat template; name a file with one, "
                "made of the special tokens [CLS] and [SEP]",
            )

    def faults(self, recipe: Recipe) -> Iterator[Conflict]:
        yield from super().faults(recipe)
        if self.template is not None and not Path(self.template).expanduser().is_file():
            yield Conflict("finetune.template", f"no such file {self.template!r}")
        if self.template is None:
            yield from without_template(self.base, "finetune.base")

    def identity(self) -> dict[str, Any]:
        if self.template is None:
            return super().identity()
        content = Path(self.template).expanduser().read_bytes()
        return {**super().identity(), "template_content": hashlib.sha256(content).hexdigest()[:16]}
