"""A tiny classifier as fine-tuning leaves it, with random weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainers.corpora.cleaning.config import Clean

LABELS = ("差", "好", "平")
MAX_LENGTH = 16


def save_classifier(
    folder: Path,
    tokenizer: Any,
    clean: Clean | None = None,
    labels: Sequence[str] = LABELS,
    threshold: float | None = None,
) -> Path:
    """`threshold` makes it one of several labels a text."""
    import torch

    from trainers.models.build import Start, build
    from trainers.models.card import CARD
    from trainers.models.shape import Shape

    torch.manual_seed(0)
    model = build(
        Start(shape=Shape(hidden_size=32, layers=1, heads=2, max_positions=64)),
        "AutoModelForSequenceClassification",
        tokenizer,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
    )
    for parameter in model.classifier.parameters():  # so that texts get different answers
        torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = {
        "task": "classify",
        "labels": list(labels),
        "max_length": MAX_LENGTH,
        "clean": (clean or Clean()).model_dump(mode="json"),
        **({} if threshold is None else {"threshold": threshold}),
    }
    (folder / CARD).write_text(json.dumps(card), "utf-8")
    return folder
