"""The section of a task whose rows become token ids before training, of which some are learned.

The stage `render` makes them, once for all trials and seeds. A row that cannot be learned is
dropped there, and counted by its reason, so that the samples of a training are all learned from.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cluster.errors import UserError
from cluster.recipe.section import Invalid, Recipe
from cluster.store.artifacts import Artifact
from trainers.tasks.spec import TaskSection

Overlong = Literal["drop", "keep_start", "keep_end", "split"]
"""What becomes of a row with more tokens than max_length. `drop` leaves it out. `keep_start` and
`keep_end` cut it, and drop it where nothing that is learned is left. `split` makes it several
sequences, of which those without anything learned are dropped."""


class RenderedTask(TaskSection):
    is_rendered: ClassVar[bool] = True
    servable: ClassVar[Literal["encoder", "vllm"]] = "vllm"
    writer: ClassVar[str] = "trainers.tasks.chat.predictor:ChatPredictor"
    """The Predictor whose prompts an endpoint of its models answers."""
    render_keys: ClassVar[tuple[str, ...]] = ("task", "max_length", "overlong")
    """The keys that decide which token ids a row becomes."""
    fixed: ClassVar[tuple[str, ...]] = (*TaskSection.fixed, *render_keys)

    max_length: int = Field(default=1024, ge=8)
    """Tokens of a row, of which what is learned is a part."""
    overlong: Overlong = "drop"
    """What becomes of a row with more than max_length tokens. Those that are dropped or cut are
    counted; so are rows of which nothing that is learned is left."""
    packing: bool = True
    """Puts several rows into one sequence, where they do not see each other, so that there is
    hardly any padding. With an architecture or a method that cannot keep them apart, each row has a
    sequence of its own, and training tells so."""

    @model_validator(mode="after")
    def _has_no_head_with_dropout(self) -> Self:
        if self.dropout != type(self).model_fields["dropout"].default:
            raise Invalid(
                "dropout", f"a model for {self.task} has no head with dropout; leave it out"
            )
        return self

    def render_inputs(self, recipe: Recipe) -> dict[str, Any]:
        """What of the recipe decides which token ids rows become, for the fingerprint of the stage
        `render`. A base that is a model of the workspace is there among its parents."""
        known = self.identity()
        keys = (*self.render_keys, "base", "base_content")
        return {key: known[key] for key in keys if known.get(key) is not None}

    def refuse_base(self, base: Artifact) -> None:
        super().refuse_base(base)
        before = (base.manifest.inputs.get("finetune") or {}).get("task")
        if before is not None and "render" not in base.manifest.parents:
            raise UserError(
                f"finetune.base: {base.id} was fine-tuned to {before}; {self.task} needs a model "
                "that writes text"
            )
