"""The recipe's section `finetune` with `task: generate`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cluster.recipe.section import Conflict, Invalid, Recipe
from trainers.corpora.examples.task_rows import Role
from trainers.corpora.reading.formats.rows import Problem
from trainers.methods.config import Prefix
from trainers.tasks.conversations.messages import is_text
from trainers.tasks.conversations.spec import TEMPLATE_KEYS, TemplatedTask
from trainers.tasks.writing.spec import WritingTask

if TYPE_CHECKING:
    from cluster.store.artifacts import Artifact
    from trainers.corpora.cleaning.documents import Normalizer

PROMPT = "{prompt}"
PROMPT_KEYS = ("instruction", "prompt_format", "max_source_length")
"""The keys that decide how the model reads a prompt."""


class Generate(WritingTask, TemplatedTask):
    implementation: ClassVar[str] = "trainers.tasks.generate.task:generate_task"
    predictor: ClassVar[str] = "trainers.tasks.generate.predictor:GeneratePredictor"
    roles: ClassVar[Mapping[str, Role]] = {
        "prompt": Role(
            "value",
            "what is read",
            also=dict.fromkeys(("source", "document", "article"), is_text),
        ),
        "completion": Role(
            "value",
            "what is written of it",
            also=dict.fromkeys(("target", "summary", "highlights"), is_text),
        ),
    }
    objectives: ClassVar[tuple[str, ...]] = ("causal_lm", "span_corruption")
    route: ClassVar[str] = "/v1/completions"
    writer: ClassVar[str] = "trainers.tasks.generate.predictor:GeneratePredictor"
    sample: ClassVar[Mapping[str, Any]] = {"prompt": "The capital of France is"}
    render_keys: ClassVar[tuple[str, ...]] = (*TemplatedTask.render_keys, *PROMPT_KEYS)
    fixed: ClassVar[tuple[str, ...]] = (*TemplatedTask.fixed, *PROMPT_KEYS)

    task: Literal["generate"] = "generate"
    instruction: str = "{prompt}\n"
    """What the model reads: a row's prompt with words around it, such as `Summarize: {prompt}`."""
    prompt_format: Literal["plain", "chat"] = "plain"
    """For decoder-only models. `plain` puts the completion right behind the instruction; `chat`
    makes them turns of user and assistant, by the chat template of the base."""
    max_source_length: int = Field(default=512, ge=4)
    """Tokens of the instruction with its prompt: the end of a longer one is not read, which is
    counted. With `prompt_format: chat` a prompt is never cut."""

    @property
    def has_turns(self) -> bool:
        return self.prompt_format == "chat"

    @classmethod
    def request(cls, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"prompts": [row["prompt"] for row in rows]}

    def problem_of(self, row: Mapping[str, Any]) -> Problem | None:
        for role in self.roles:
            if not row[role].strip():
                return Problem(f"an empty {role}")
        return None

    def cleaned(self, row: Mapping[str, Any], clean: "Normalizer") -> dict[str, Any]:
        """The texts mended with their layout, which is part of what dialogues and code say."""
        return {role: clean.mend(row[role]).strip() for role in self.roles}

    def prompt_of(self, row: Mapping[str, Any]) -> str | None:
        prompt: str = row["prompt"]
        return prompt

    @model_validator(mode="after")
    def _instruction_has_the_prompt(self) -> Self:
        if self.instruction.count(PROMPT) != 1:
            raise Invalid("instruction", f"has {PROMPT} once, found {self.instruction!r}")
        return self

    @model_validator(mode="after")
    def _plain_has_no_template(self) -> Self:
        for key in TEMPLATE_KEYS:
            if getattr(self, key) and not self.has_turns:
                raise Invalid(key, "goes with prompt_format: chat; leave it out")
        return self

    def conflicts(self, recipe: Recipe) -> Iterator[Conflict]:
        yield from super().conflicts(recipe)
        if recipe.pretrain is None:
            return
        if recipe.pretrain.objective == "span_corruption" and self.prompt_format == "chat":
            yield Conflict(
                "finetune.prompt_format", "an encoder-decoder has no chat template; set plain"
            )
        if recipe.pretrain.objective == "span_corruption" and isinstance(self.method, Prefix):
            yield Conflict(
                "finetune.method",
                "prefix is not for encoder-decoders yet; take prompt, p_tuning or lora",
            )

    def card(self, examples: "Artifact", metrics: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **super().card(examples, metrics),
            **{key: getattr(self, key) for key in PROMPT_KEYS},
        }
