"""What all tasks of fine-tuning share: rows of examples, encoded when they are taken."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from cluster.store.artifacts import Artifact
from trainers.corpora.feeding.feed import Examples
from trainers.corpora.tokens import tokenizer as tokenizers
from trainers.corpora.tokens.pack import read_arrow
from trainers.models.build import Start, build, refuse_longer
from trainers.tasks.flops import Cost
from trainers.tasks.labelled import LabelledTask
from trainers.tasks.task import Batch, lengths

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclasses.dataclass(frozen=True)
class FineTuning(abc.ABC):
    """A Task but for its encoding, loss and metrics."""

    settings: Any
    """The task's section of the recipe."""
    examples: Artifact | None
    """None for a plan, before there are any."""
    start: Start
    tokenizer_folder: str

    rows_are_coupled: ClassVar[bool] = False

    @abc.abstractmethod
    def encode(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What `collate` takes of each row: token ids and labels, cut as the model reads them. A
        row may be several sequences, which stay together in a batch."""

    def tokenizer(self) -> "PreTrainedTokenizerFast":
        tokenizer = tokenizers.load(self.tokenizer_folder, "finetune.base")
        # So that others cut and encode texts as we do.
        tokenizer.model_max_length = self.settings.max_length
        tokenizer.split_special_tokens = True
        tokenizer.init_kwargs["split_special_tokens"] = True  # which is what is saved
        return tokenizer

    def rows(self, split: str) -> Examples:
        assert self.examples is not None
        grouped = self.settings.batch_size if self.settings.group_by_length else None
        return Examples(read_arrow(self.examples.path / f"{split}.arrow"), self.encode, grouped)

    def length(self, row: Mapping[str, Any]) -> int:
        return len(row["input_ids"])

    def unlearned(self) -> dict[str, int]:
        return {}

    def flops(self, model: "PreTrainedModel") -> Callable[[Batch], float]:
        """Where each sequence is predicted from once."""
        cost = Cost.of(model)
        return lambda batch: cost.flops(lengths(batch), len(batch["input_ids"]))

    def build(self, head: str, **config: Any) -> "PreTrainedModel":
        """The model with a head, a class of Transformers; `config` are keys of its config."""
        dropout = self.settings.dropout
        model = build(self.start, head, self.loaded_tokenizer, head_dropout=dropout, **config)
        refuse_longer(model, "finetune.max_length", self.settings.max_length)
        return model

    @functools.cached_property
    def loaded_tokenizer(self) -> "PreTrainedTokenizerFast":
        return self.tokenizer()

    @functools.cached_property
    def pad_id(self) -> Any:
        return self.loaded_tokenizer.pad_token_id


@dataclasses.dataclass(frozen=True)
class LabelledFineTuning(FineTuning):
    """With a fixed set of labels."""

    settings: LabelledTask

    @functools.cached_property
    def labels(self) -> list[str]:
        """In the order of their numbers. For a plan whose data are not there yet, others stand."""
        if self.examples is None:
            return self.settings.labels or [*map(str, range(self.settings.least_labels))]
        return self.settings.label_order(self.examples)

    @functools.cached_property
    def label_numbers(self) -> dict[str, int]:
        return {label: number for number, label in enumerate(self.labels)}
