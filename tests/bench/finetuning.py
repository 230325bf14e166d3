"""Fine-tuned encoders: how fast they answer and learn beside Transformers (minilm.py).

Some ten minutes a repeat on two cores, which must be quiet. `pip install '.[bench]'`.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import minilm, steady
from tests.bench.harness import Metric, main

TEXTS = 20_000
TIES = 2
"""Texts whose two best labels may be as likely to seven digits."""


def beside(ours: Callable[..., Any], peer: Callable[..., Any], number: int) -> tuple[Any, Any]:
    """Both on the same file of texts, each in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="raymill-") as folder:
        source = Path(folder) / "texts.jsonl"
        minilm.write_rows(source, minilm.texts(number))
        found = [steady.run(one, 1, str(source)) for one in (ours, peer)]
    return found[0], found[1]


def score_vs_pipeline() -> tuple[float, float]:
    ours, peer = beside(minilm.score, minilm.pipeline, TEXTS)
    pairs = zip(ours["labels"], peer["labels"], strict=True)
    others = sum(one != other for one, other in pairs)
    assert others <= TIES, f"{others} predictions differ"
    return TEXTS / ours["seconds"], TEXTS / peer["seconds"]


def encoder_vs_hf_trainer() -> tuple[float, float]:
    return beside(minilm.fine_tune, minilm.hugging_face, minilm.BATCH * minilm.STEPS)


# fmt: off
METRICS = (
    Metric("score_vs_pipeline", "x texts/s", score_vs_pipeline, ">= 1.5",
           "a Transformers pipeline at its best batch size"),
    Metric("encoder_vs_hf_trainer", "x tokens/s", encoder_vs_hf_trainer, ">= 1.2",
           "Hugging Face Trainer"),
)
# fmt: on

if __name__ == "__main__":
    main("finetuning", METRICS, ("raymill", "torch", "deepspeed", "transformers", "ray"))
