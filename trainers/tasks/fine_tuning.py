"""What all tasks of fine-tuning share: examples, and the model and the tokenizer of a base."""

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
    """A Task but for its rows, loss and metrics."""

    settings: Any
    """The task's section of the recipe."""
    examples: Artifact | None
    """Its data: examples, or what the stage `render` made of them. None for a plan, before there
    are any."""
    start: Start
    tokenizer_folder: str
    reference: Artifact | None = None
    """What its base says of the rows, by the stage `reference`, where the task has it."""

    rows_are_coupled: ClassVar[bool] = False

    @abc.abstractmethod
    def tokenizer(self) -> "PreTrainedTokenizerFast":
        """The tokenizer as it is saved with the model."""

    def length(self, row: Mapping[str, Any]) -> int:
        return len(row["input_ids"])

    def unlearned(self) -> dict[str, int]:
        return {}

    def build(self, head: str, **config: Any) -> "PreTrainedModel":
        """The model with a head, a class of Transformers; `config` are keys of its config."""
        model = build(self.start, head, self.loaded_tokenizer, **config)
        settings = self.settings
        in_front = settings.in_front_of_max_length(model.config.is_encoder_decoder)
        refuse_longer(model, "finetune.max_length", settings.max_length, in_front)
        return model

    @functools.cached_property
    def loaded_tokenizer(self) -> "PreTrainedTokenizerFast":
        return self.tokenizer()

    @functools.cached_property
    def pad_id(self) -> Any:
        """The token that sequences are filled up with. Labels are made before, so that it may be
        the token that ends a text, where a tokenizer has no other."""
        pad = self.loaded_tokenizer.pad_token_id
        return tokenizers.ends(self.loaded_tokenizer)[1] if pad is None else pad

    @property
    def grouped(self) -> int | None:
        """The batch size, where the samples of a batch are to be of similar length."""
        return self.settings.batch_size if self.settings.group_by_length else None


@dataclasses.dataclass(frozen=True)
class EncodedFineTuning(FineTuning):
    """A task whose rows are encoded when they are taken."""

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
        table = read_arrow(self.examples.path / f"{split}.arrow")
        return Examples(table, self.encode, self.grouped)

    def flops(self, model: "PreTrainedModel") -> Callable[[Batch], float]:
        """The FLOPs of a batch in which each sequence is predicted from once."""
        cost = Cost.of(model)
        return lambda batch: cost.flops(lengths(batch), len(batch["input_ids"]))

    def build(self, head: str, **config: Any) -> "PreTrainedModel":
        return super().build(head, head_dropout=self.settings.dropout, **config)


@dataclasses.dataclass(frozen=True)
class LabelledFineTuning(EncodedFineTuning):
    """A task with a fixed set of labels."""

    settings: LabelledTask

    @functools.cached_property
    def labels(self) -> list[str]:
        """The labels in the order of their numbers; stand-ins for a plan before there are data."""
        if self.examples is None:
            return self.settings.labels or [*map(str, range(self.settings.least_labels))]
        return self.settings.label_order(self.examples)

    @functools.cached_property
    def label_numbers(self) -> dict[str, int]:
        return {label: number for number, label in enumerate(self.labels)}
