"""How entities are told from what a model says of every token: by tags, or by spans."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor

from trainers.tasks.ner.span_head import SpanHead
from trainers.tasks.ner.tag_head import TagHead
from trainers.tasks.ner.windows import Decoded, Span, Window, Windows
from trainers.tasks.task import Batch


class Head(Protocol):
    not_learned: ClassVar[str]
    """What is wrong with entities that are not `learnable`."""

    @property
    def outputs(self) -> list[str]:
        """What the model says of every token, by name."""
        ...

    def learnable(self, windows: Windows, spans: Sequence[Span]) -> list[Span]: ...

    def labelled(self, windows: Windows, spans: Sequence[Span]) -> list[Any]:
        """Of each window what `collate` takes, from spans that are learnable."""
        ...

    def longest(self, window: Window) -> Any:
        """The same, of a window without a text, for a plan."""
        ...

    def collate(self, labels: Sequence[Any]) -> Batch:
        """Of all windows of a batch."""
        ...

    def targets(self, batch: Batch) -> float: ...

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor: ...

    def decode(self, logits: Sequence[Tensor], windows: Sequence[Window]) -> Decoded:
        """From what the model says of each window of a text, (tokens, outputs), padding at the
        end."""
        ...


HEADS: Mapping[str, type[TagHead] | type[SpanHead]] = {"tags": TagHead, "spans": SpanHead}
