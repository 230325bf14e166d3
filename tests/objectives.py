"""What objectives of pretraining are tested on: tiny models, and packed sequences."""

from typing import Any

import torch

from trainers.models.build import Start
from trainers.models.shape import Shape

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
