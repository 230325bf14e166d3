"""Tiny models that write, as fine-tuning leaves them, with random weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.corpora.cleaning.config import Clean

CARD = {"max_length": 48, "most_new_tokens": 6}


def save_writer(
    folder: Path,
    tokenizer: Any,
    task: str,
    architecture: str = "llama",
    max_positions: int = 256,
    **card: Any,
) -> Path:
    """`card` has what the card says besides."""
    import torch

    from trainers.models import card as cards
    from trainers.models.build import Start, build
    from trainers.models.shape import Shape

    torch.manual_seed(0)
    head = "AutoModelForSeq2SeqLM" if architecture == "t5" else "AutoModelForCausalLM"
    sizes: Any = {"hidden_size": 32, "layers": 1, "heads": 2, "max_positions": max_positions}
    shape = Shape(architecture=architecture, **sizes)
    model = build(Start(shape=shape), head, tokenizer)
    for parameter in model.parameters():  # so that prompts get different answers
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    described: Mapping[str, Any] = {
        "task": task,
        **CARD,
        "clean": Clean().model_dump(mode="json"),
        **card,
    }
    (folder / cards.CARD).write_text(json.dumps(described), "utf-8")
    return folder
