"""A task whose rows become token ids before training, of which some are learned.

The stage `render` makes them, once for all trials and seeds: so the order of samples counts the
rows that can be learned, and every other one was dropped for a reason that is told.
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
    rendering: ClassVar[tuple[str, ...]] = ("task", "max_length", "overlong")
    """Keys that decide which token ids a row becomes."""
    fixed: ClassVar[tuple[str, ...]] = (*TaskSection.fixed, *rendering)

    max_length: int = Field(default=1024, ge=8)
    """Tokens of a row, of which what is learned is a part."""
    overlong: Overlong = "drop"
    """What becomes of a row with more than max_length tokens. Those that are dropped or cut are
    counted; so are rows of which nothing that is learned is left."""
    packing: bool = True
    """Puts several short rows into one sequence, in which they do not see each other, so that there
    is hardly any padding. An architecture or a method by which they would, pads each row, and tells
    so."""

    @model_validator(mode="after")
    def _has_no_head_with_dropout(self) -> Self:
        if self.dropout != type(self).model_fields["dropout"].default:
            raise Invalid(
                "dropout", f"a model for {self.task} has no head with dropout; leave it out"
            )
        return self

    def render_inputs(self, recipe: Recipe) -> dict[str, Any]:
        """What of the recipe decides which token ids rows become: it is in the fingerprint of
        those. A base that is a model of the workspace is their parent."""
        known = self.identity()
        keys = (*self.rendering, "base", "base_content")
        return {key: known[key] for key in keys if known.get(key) is not None}

    def refuse_base(self, base: Artifact) -> None:
        super().refuse_base(base)
        before = (base.manifest.inputs.get("finetune") or {}).get("task")
        if before is not None and "render" not in base.manifest.parents:
            raise UserError(
                f"finetune.base: {base.id} was fine-tuned to {before}; {self.task} needs a model "
                "that writes text"
            )
