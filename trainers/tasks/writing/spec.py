"""What sections of tasks have of answers: how they are written, and the metrics of them. Light."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from cluster.recipe.section import Recipe, operational
from trainers.tasks import spec
from trainers.tasks.rendered import RenderedTask
from trainers.tasks.spec import Metric, Shown

if TYPE_CHECKING:
    from cluster.store.artifacts import Artifact


class Evaluation(spec.Evaluation):
    base: bool = True
    """The base answers the same rows, beside the model that was made of it: so that what
    fine-tuning is worth is a figure."""


class WritingTask(RenderedTask):
    """A task whose model writes its answer."""

    figures: ClassVar[str] = "trainers.tasks.writing.figures:figures"
    tally: ClassVar[str] = "trainers.tasks.writing.figures:tally"
    row_cost: ClassVar[int] = 64
    shown: ClassVar[Shown] = Shown(
        text="prompt",
        text_title="Prompt",
        score="rouge_l",
        score_title="ROUGE-L",
        worst="Answers that are least like the true ones come first, by ROUGE-L.",
    )
    metrics: ClassVar[Mapping[str, Metric]] = {
        "loss": Metric("min", "loss", highest=math.inf),
        "perplexity": Metric("min", "perplexity", lowest=1.0, highest=math.inf),
        "accuracy": Metric("max", "token accuracy"),
        "rouge_l": Metric("max", "ROUGE-L"),
        "chrf": Metric("max", "chrF"),
        "exact_match": Metric("max", "exact match"),
        "ended": Metric("max", "ends by itself"),
    }

    most_new_tokens: int = operational(256, ge=1)
    """Tokens of an answer at most, where the model does not end it before. Another number redoes
    the evaluation alone; a model that is there keeps its own for `raymill score`."""
    evaluation: Evaluation = operational(Evaluation())

    def warnings(self, recipe: Recipe) -> Iterator[str]:
        yield from super().warnings(recipe)
        is_scratch = self.base is None and recipe.pretrain.base is None
        corpora = recipe.corpora
        if is_scratch and corpora.tokenizer.base is None and corpora.clean.unicode == "NFKC":
            yield (
                "corpora.clean.unicode: NFKC is the tokenizer's normal form, too, so the model "
                "reads and writes `,` for `，`; NFC loses nothing"
            )

    @property
    def headline(self) -> str:
        """The loss, which validation has too. Answers take too long to write for that."""
        return "loss"

    @property
    def validation_metrics(self) -> tuple[str, ...]:
        return ("loss", "perplexity", "accuracy")

    @property
    def test_metrics(self) -> tuple[str, ...]:
        return (*self.metrics,)

    @property
    def answering(self) -> Mapping[str, Any]:
        return {"most_new_tokens": self.most_new_tokens}

    @property
    def compares_base(self) -> bool:
        return self.evaluation.base

    def card(self, examples: "Artifact", metrics: Mapping[str, Any]) -> dict[str, Any]:
        return {**super().card(examples, metrics), **self.answering}
