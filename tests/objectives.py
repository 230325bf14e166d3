"""What tasks are tested on: tiny models, packed sequences, and validation in this process."""

from collections.abc import Sequence
from typing import Any

import torch

from trainers.models.build import Start
from trainers.models.shape import Shape
from trainers.tasks.task import Counts, Task

LENGTH = 256
HEADS = {
    "causal_lm": "AutoModelForCausalLM",
    "masked_lm": "AutoModelForMaskedLM",
    "replaced_tokens": "AutoModelForPreTraining",
    "span_corruption": "AutoModelForSeq2SeqLM",
}
"""The class of Transformers that each trains."""
CLASSIFIER = "AutoModelForSequenceClassification"


def start(architecture: str) -> Start:
    sizes = {"hidden_size": 32, "layers": 1, "heads": 2, "max_positions": LENGTH}
    return Start(shape=Shape.model_validate({"architecture": architecture, **sizes}))


def sequences(count: int, tokenizer: Any) -> list[dict[str, Any]]:
    """Sequences of three documents, one of a single token, and some padding."""
    generator = torch.Generator().manual_seed(5)
    begin, end, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    made = []
    for _ in range(count):
        words = torch.randint(5, len(tokenizer), (LENGTH,), generator=generator).tolist()
        pieces = [
            [begin, *words[:120], end],
            [begin, words[120], end],
            [begin, *words[121:220], end],
        ]
        flat = [token for piece in pieces for token in piece]
        made.append(
            {
                "input_ids": flat + [pad] * (LENGTH - len(flat)),
                "piece_lengths": [len(piece) for piece in pieces],
            }
        )
    return made


def validated(
    task: Task, model: Any, batches: Sequence[Sequence[dict[str, Any]]]
) -> dict[str, float]:
    """The metrics of these batches of rows, from counts that are added up as by a validation."""
    counts: Counts = {}
    for rows in batches:
        batch = task.collate(rows, range(len(rows)))
        with torch.no_grad():
            loss, further = task.loss(model, batch)
        for name, value in {"loss": loss, "targets": task.targets(batch), **further}.items():
            counts[name] = counts.get(name, torch.zeros(())) + torch.as_tensor(value)
    return task.metrics(counts)
