"""The recipe's section `finetune` with `task: chat`."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from cluster.recipe.section import Conflict, Recipe
from trainers.tasks.conversations.rows import ConversationRows
from trainers.tasks.generated.spec import GeneratedTask
from trainers.tasks.rendered import RenderedTask, without_template


class Chat(ConversationRows, GeneratedTask):
    implementation: ClassVar[str] = "trainers.tasks.chat.task:ChatTask"
    predictor: ClassVar[str] = "trainers.tasks.chat.predictor:ChatPredictor"
    objectives: ClassVar[tuple[str, ...]] = ("causal_lm",)
    route: ClassVar[str] = "/v1/chat/completions"
    sample: ClassVar[Mapping[str, Any]] = {
        "messages": [{"role": "user", "content": "What is the capital of France?"}]
    }
    input_forms: ClassVar[tuple[tuple[str, ...], ...]] = (("messages",), ("prompt",))
    optional_inputs: ClassVar[tuple[str, ...]] = ("input", "system", "tools")
    servable: ClassVar[Literal["encoder", "vllm_adapter", "vllm_merged"]] = "vllm_merged"
    rendering: ClassVar[tuple[str, ...]] = (*RenderedTask.rendering, "template", "template_content")
    fixed: ClassVar[tuple[str, ...]] = (*RenderedTask.fixed, "template")

    task: Literal["chat"] = "chat"
    template: str | None = None
    """A file with the chat template, in Jinja as Transformers has it; by default the base has one.
    It is saved with the model."""

    @classmethod
    def request(cls, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        asked = ({"messages": row["messages"], "tools": row.get("tools") or ""} for row in rows)
        return {"conversations": [*asked]}

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
